// Nothing to call: what is defined is found by the linker.
