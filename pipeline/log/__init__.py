"""The delivery log: one line an attempt. `schema` says what a line holds, `writing` writes, `reading` asks."""
