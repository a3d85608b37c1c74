"""The paper's experiments and the document of their results."""
