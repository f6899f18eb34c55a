"""What comes in from outside, however wrong: bytes, bodies, keys, names; and what may be seen of it afterwards."""
