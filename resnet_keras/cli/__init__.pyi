from .program import main as main
from .program import run as run
