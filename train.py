"""Train, evaluate, check or export one model; `python train.py --help` lists the options.

README.md and CONTRIBUTING.md show the way from here.
"""

from watchme.cli.main import main

if __name__ == "__main__":
    main()
