"""Readers: how the files of each published format become frames, a generator a format."""
