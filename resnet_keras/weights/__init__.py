"""Weights from other libraries' files and from our own, into our networks, with a report of every tensor."""
