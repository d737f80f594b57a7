"""A few out of many, at equal distances."""


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` numbers below `count`, the first and the last among them; all of them where there are no more.

    >>> evenly(10, 4), evenly(3, 5), evenly(9, 1)
    ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    if count <= wanted:
        return list(range(count))
    return [round(at * (count - 1) / max(1, wanted - 1)) for at in range(wanted)]
