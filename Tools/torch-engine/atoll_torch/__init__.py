"""A stage of an Atoll job on a GPU (CUDA, ROCm, MPS) or on the processor, with PyTorch.

A daemon starts ``python3 -m atoll_torch`` with a socket as descriptor 3 and asks for device steps: forward, backward, inner
optimizer steps. Codecs, outer steps and everything that peers must agree on to the bit stay in the daemon. The protocol is
described in docs/WORKER.md; nothing here reads code, pickles or files that came from elsewhere.
"""
