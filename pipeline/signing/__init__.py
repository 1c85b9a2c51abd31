"""Signing: which keys sign now (`keys`), the processes that make signatures (`pool`), and their program (`worker`)."""
