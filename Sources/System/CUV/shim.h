#pragma once
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <uv.h>
/* Upcasts, so that Swift need not rebind pointers. */
#define UPCAST(T) static inline uv_handle_t *atoll_handle_##T(uv_##T##_t *p) { return (uv_handle_t *)p; }
UPCAST(tcp)
UPCAST(udp)
UPCAST(idle)
UPCAST(poll)
UPCAST(timer)
UPCAST(signal)
#undef UPCAST
/* A counter that can be polled; -1: out of descriptors. */
static inline int atoll_event_descriptor(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
static inline uv_stream_t *atoll_stream_tcp(uv_tcp_t *p) { return (uv_stream_t *)p; }

struct mmsghdr; /* declared by GNU headers only when asked */
extern int sendmmsg(int, struct mmsghdr *, unsigned int, int);
/* Datagrams that leave together in one call: `count` of them, packed one behind the other in `bytes`.
   Returns how many the kernel took before it would have to wait. */
#define ATOLL_BATCH 32
static inline int atoll_send_batch(int fd, char *bytes, const uint32_t *sizes, struct sockaddr_in6 *to, int count) {
    /* Not struct mmsghdr, which some module maps hide: the same layout. */
    struct { struct msghdr head; unsigned int sent; } messages[ATOLL_BATCH];
    struct iovec parts[ATOLL_BATCH];
    memset(messages, 0, sizeof messages[0] * (size_t)count);
    for (int i = 0; i < count; i++) {
        parts[i].iov_base = bytes;
        parts[i].iov_len = sizes[i];
        bytes += sizes[i];
        messages[i].head.msg_name = &to[i];
        messages[i].head.msg_namelen = to[i].sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof to[i];
        messages[i].head.msg_iov = &parts[i];
        messages[i].head.msg_iovlen = 1;
    }
    int done = 0;
    while (done < count) {
        int taken = sendmmsg(fd, (struct mmsghdr *)(messages + done), (unsigned)(count - done), MSG_DONTWAIT);
        /* The first one cannot be sent at all (no route, say): it is lost, the others are not. */
        if (taken <= 0) taken = 1;
        done += taken;
    }
    return done;
}

/* Linux: the kernel ends this process when its parent ends. */
#include <signal.h>
#include <sys/prctl.h>
static inline void atoll_die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }
