from .local_workers import run_workers as run_workers
from .local_workers import worker_environments as worker_environments
from .strategy import create_strategy as create_strategy
