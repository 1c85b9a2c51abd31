"""Damage of the queue's file: seen, said, and saved from."""
