"""Training recipes as typed data, with their published and measured errors."""
