    """Let some threads create one key at once; return how many got the answer that they did."""
    start = Barrier(RIVALS, timeout=_WAIT)
