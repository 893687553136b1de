"""What a call means, step by step, whatever carries it: flows, retries, hooks, signatures, inputs, answers."""
