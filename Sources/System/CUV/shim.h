#pragma once
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
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

/* One buffer that the kernel cuts into datagrams of `segment` bytes (UDP_SEGMENT, Linux 4.18). Returns how many bytes were taken, or -errno. */
#include <errno.h>
#include <netinet/in.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define ATOLL_SOL_UDP 17
#define ATOLL_UDP_GRO UDP_GRO
#define ATOLL_TIMESTAMPS SO_TIMESTAMPNS
static inline int atoll_send_segments(
    int fd, const void *bytes, size_t count, uint16_t segment, const struct sockaddr *to) {
    struct iovec part = {(void *)bytes, count};
    union {
        char room[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr alignment;
    } control;
    struct msghdr head;
    memset(&head, 0, sizeof head);
    head.msg_name = (void *)to;
    head.msg_namelen = to->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    head.msg_iov = &part;
    head.msg_iovlen = 1;
    if (count > segment) {
        memset(&control, 0, sizeof control);
        head.msg_control = control.room;
        head.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&head);
        c->cmsg_level = ATOLL_SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    ssize_t sent = sendmsg(fd, &head, MSG_DONTWAIT);
    return sent < 0 ? -errno : (int)sent;
}
extern int recvmmsg(int, struct mmsghdr *, unsigned int, int, struct timespec *);
/* What has come, up to `count` buffers of `each` bytes; where the kernel put datagrams of one sender together (UDP_GRO, Linux 5.0) `segments` has
   the size of all but the last of them, elsewhere that of the datagram. `ages`: nanoseconds since the kernel had it (SO_TIMESTAMPNS), 0 where it does
   not say; at most a second, for its clock may be set. Returns how many buffers are filled, or -errno. */
static inline int atoll_receive_batch(
    int fd, char *buffer, size_t each, int count, struct sockaddr_in6 *from, uint32_t *sizes, uint32_t *segments,
    int64_t *ages) {
    struct { struct msghdr head; unsigned int got; } messages[ATOLL_BATCH];
    struct iovec parts[ATOLL_BATCH];
    union {
        char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr alignment;
    } controls[ATOLL_BATCH];
    if (count > ATOLL_BATCH) count = ATOLL_BATCH;
    memset(messages, 0, sizeof messages[0] * (size_t)count);
    for (int i = 0; i < count; i++) {
        parts[i].iov_base = buffer + each * (size_t)i;
        parts[i].iov_len = each;
        messages[i].head.msg_name = &from[i];
        messages[i].head.msg_namelen = sizeof from[i];
        messages[i].head.msg_iov = &parts[i];
        messages[i].head.msg_iovlen = 1;
        messages[i].head.msg_control = controls[i].room;
        messages[i].head.msg_controllen = sizeof controls[i].room;
    }
    int got = recvmmsg(fd, (struct mmsghdr *)messages, (unsigned)count, MSG_DONTWAIT, NULL);
    if (got < 0) return -errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < got; i++) {
        ages[i] = 0;
        struct msghdr *head = &messages[i].head;
        /* What did not fit is not what was sent. */
        sizes[i] = head->msg_flags & MSG_TRUNC ? 0 : messages[i].got;
        segments[i] = sizes[i];
        for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec at;
                memcpy(&at, CMSG_DATA(c), sizeof at);
                int64_t age = (int64_t)(now.tv_sec - at.tv_sec) * 1000000000 + (now.tv_nsec - at.tv_nsec);
                ages[i] = age < 0 ? 0 : age > 1000000000 ? 1000000000 : age;
            }
            if (c->cmsg_level == ATOLL_SOL_UDP && c->cmsg_type == UDP_GRO) {
                int segment;
                memcpy(&segment, CMSG_DATA(c), sizeof segment);
                if (segment > 0) segments[i] = (uint32_t)segment;
            }
        }
    }
    return got;
}

/* Linux: the kernel ends this process when its parent ends. */
#include <signal.h>
#include <sys/prctl.h>
static inline void atoll_die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }
