"""Both jobs spread over a Ray cluster: the only package that imports Ray."""
