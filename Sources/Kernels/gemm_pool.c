// A small pool of threads. Workers spin briefly, then sleep on a condition variable, so an oversubscribed machine is
// not kept busy by waiting; a worker that wakes after the work is gone goes back to sleep and delays nobody.
#include "include/kernels_gemm.h"

#include <pthread.h>
#include <stdatomic.h>

enum { maximum_workers = 127, spins_before_sleep = 4000 };

/// One job at a time; whoever holds `owner` is the only publisher.
static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER;
/// Guards everything below but the atomics.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_arrived = PTHREAD_COND_INITIALIZER;
static pthread_cond_t worker_left = PTHREAD_COND_INITIALIZER;
static int worker_count = 0;
/// Workers allowed to join the current job, and those inside it.
static int seats = 0, inside = 0;
static void (*current_task)(void *, ptrdiff_t) = NULL;
static void *current_context = NULL;
static ptrdiff_t current_count = 0;
static atomic_ulong generation = 0;
static atomic_long next_index = 0;

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_indices(void (*task)(void *, ptrdiff_t), void *context, ptrdiff_t count) {
    for (;;) {
        ptrdiff_t index = atomic_fetch_add_explicit(&next_index, 1, memory_order_relaxed);
        if (index >= count) return;
        task(context, index);
    }
}

static void *worker(void *unused) {
    (void)unused;
    unsigned long seen = 0;
    for (;;) {
        for (int spin = 0; spin < spins_before_sleep; spin++) {
            if (atomic_load_explicit(&generation, memory_order_acquire) != seen) break;
            pause_briefly();
        }
        pthread_mutex_lock(&lock);
        while (atomic_load_explicit(&generation, memory_order_relaxed) == seen) pthread_cond_wait(&work_arrived, &lock);
        seen = atomic_load_explicit(&generation, memory_order_relaxed);
        if (seats == 0) {
            pthread_mutex_unlock(&lock);
            continue;
        }
        seats--;
        inside++;
        void (*task)(void *, ptrdiff_t) = current_task;
        void *context = current_context;
        ptrdiff_t count = current_count;
        pthread_mutex_unlock(&lock);
        take_indices(task, context, count);
        pthread_mutex_lock(&lock);
        inside--;
        if (inside == 0) pthread_cond_signal(&worker_left);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

void kernels_parallel(int threads, ptrdiff_t count, void (*task)(void *, ptrdiff_t), void *context) {
    if (threads > count) threads = (int)count;
    if (threads <= 1 || pthread_mutex_trylock(&owner) != 0) {
        for (ptrdiff_t index = 0; index < count; index++) task(context, index);
        return;
    }
    int helpers = threads - 1 < maximum_workers ? threads - 1 : maximum_workers;
    pthread_mutex_lock(&lock);
    while (worker_count < helpers) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, NULL) != 0) break;
        pthread_detach(thread);
        worker_count++;
    }
    current_task = task;
    current_context = context;
    current_count = count;
    seats = helpers;
    atomic_store_explicit(&next_index, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    pthread_cond_broadcast(&work_arrived);
    pthread_mutex_unlock(&lock);

    take_indices(task, context, count);

    pthread_mutex_lock(&lock);
    seats = 0;
    while (inside > 0) pthread_cond_wait(&worker_left, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&owner);
}
