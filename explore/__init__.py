"""Design-space exploration: spaces, search, a store of results, local and cluster workers.

Import it as `bitwright.explore`. Nothing lives here yet; one run at a time is `bitwright simulate`.
"""
