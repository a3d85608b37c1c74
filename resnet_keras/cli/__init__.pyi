from .program import run as run
