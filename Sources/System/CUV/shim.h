#pragma once
#include <sys/timerfd.h>
#include <uv.h>
/* Upcasts, so that Swift need not rebind pointers. */
#define UPCAST(T) static inline uv_handle_t *atoll_handle_##T(uv_##T##_t *p) { return (uv_handle_t *)p; }
UPCAST(tcp)
UPCAST(udp)
UPCAST(async)
UPCAST(idle)
UPCAST(poll)
UPCAST(signal)
#undef UPCAST
static inline uv_stream_t *atoll_stream_tcp(uv_tcp_t *p) { return (uv_stream_t *)p; }

/* Linux: the kernel ends this process when its parent ends. */
#include <signal.h>
#include <sys/prctl.h>
static inline void atoll_die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }
