"""HTTP/2 as a server needs it: frames, compressed headers, flow control, one asyncio protocol for each connection."""
