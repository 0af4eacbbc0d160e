"""Seeded mutations of bytes and JSON documents."""

import random

VALUES = (0, 1, 2, 4, 0x7F, 0x80, 0xFF)
NUMBERS = (0, -1, 10**9, 10**18, -(10**9), 0.0, 1e308, float("nan"), float("inf"))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, repeat or insert bytes, mostly near the beginning or the end."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        length = len(found)
        if not length:
            break
        place = rng.randrange(rng.choice((min(64, length), min(512, length), length)))
        place = length - 1 - place if rng.random() < 0.3 else place
        kind = rng.randrange(6)
        if kind <= 1:
            found[place] = rng.choice(VALUES) if kind else rng.randrange(256)
        elif kind == 2:
            found[place : place + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        elif kind == 3:
            del found[place : place + rng.choice((1, 4, 100, length))]
        elif kind == 4:
            found[place:place] = found[place : place + rng.choice((4, 40, 400))] * rng.choice(
                (1, 50)
            )
        else:
            found[place:place] = rng.randbytes(rng.choice((1, 8, 64)))
    return bytes(found)


def mutated_json(value: object, rng: random.Random) -> object:
    """Replace values of a JSON document by others of any type."""
    if rng.random() < 0.06:
        choices = (None, True, "", "\x00\u202e", [], {}, [[]], *NUMBERS, "x" * 10_000)
        return rng.choice(choices)
    if isinstance(value, dict):
        found = {k: mutated_json(v, rng) for k, v in value.items() if rng.random() > 0.02}
        return {**found, **({"image_size": rng.choice(NUMBERS)} if rng.random() < 0.05 else {})}
    return [mutated_json(each, rng) for each in value] if isinstance(value, list) else value
