"""Data sets that the package brings with it, as TFDS builders."""
