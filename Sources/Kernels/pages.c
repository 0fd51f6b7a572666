// Memory for large buffers.
#define _DEFAULT_SOURCE
#include "include/kernels_ops.h"

#include <sys/mman.h>

void *kernels_take_pages(size_t bytes) {
    void *pages = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? 0 : pages;
}

void kernels_give_pages(void *pages, size_t bytes) { munmap(pages, bytes); }
