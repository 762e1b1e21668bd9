"""What layers are called in the keys of scalars: by their place among the watched ones."""


def places(n: int) -> list[str]:
    """The places of n layers, from the first: ``01``, ``02``, ...; three digits from 100 layers on."""
    digits = 2 if n < 100 else len(str(n))
    return [f"{k:0{digits}}" for k in range(1, n + 1)]
