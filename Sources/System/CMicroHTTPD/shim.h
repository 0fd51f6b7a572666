#pragma once
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* What Swift cannot call: functions of any number of arguments. */

/* A daemon that runs when it is told to, with connections that somebody else accepts. */
static inline struct MHD_Daemon *atoll_web_start(
    MHD_AccessHandlerCallback handler, void *handler_context, MHD_RequestCompletedCallback completed,
    void *completed_context, MHD_NotifyConnectionCallback connected, void *connected_context, unsigned int connections,
    unsigned int idle_seconds, size_t memory_per_connection) {
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, handler, handler_context,
        MHD_OPTION_NOTIFY_COMPLETED, completed, completed_context, MHD_OPTION_NOTIFY_CONNECTION, connected,
        connected_context, MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory_per_connection, MHD_OPTION_END);
}

/* Hands it a socket, which it closes from now on, whatever it returns. */
static inline int atoll_web_add(struct MHD_Daemon *daemon, int socket) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getpeername(socket, (struct sockaddr *)&address, &length) != 0) {
        close(socket);
        return 0;
    }
    return MHD_add_connection(daemon, socket, (struct sockaddr *)&address, length) == MHD_YES;
}

/* The other end's address in network order, 16 bytes; of IPv4 the first four. */
static inline int atoll_web_address(int socket, unsigned char *out) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    __builtin_memset(out, 0, 16);
    if (getpeername(socket, (struct sockaddr *)&address, &length) != 0) return 0;
    if (address.ss_family == AF_INET) __builtin_memcpy(out, &((struct sockaddr_in *)&address)->sin_addr, 4);
    if (address.ss_family == AF_INET6) __builtin_memcpy(out, &((struct sockaddr_in6 *)&address)->sin6_addr, 16);
    return 1;
}

/* What belongs to a connection, as its notification left it; NULL: nothing. */
static inline void *atoll_web_context(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* Whether a connection begins; else it ends. */
static inline int atoll_web_begins(enum MHD_ConnectionNotificationCode code) {
    return code == MHD_CONNECTION_NOTIFY_STARTED;
}

static inline int atoll_web_descriptor(struct MHD_Daemon *daemon) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info ? info->epoll_fd : -1;
}

/* Its enumerations reach Swift under other names from version to version; numbers do not. */

static inline enum MHD_Result atoll_web_result(int yes) { return yes ? MHD_YES : MHD_NO; }

/* A response that keeps a copy of the bytes. */
static inline struct MHD_Response *atoll_web_response(const void *bytes, size_t count) {
    return MHD_create_response_from_buffer(count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

static inline const char *atoll_web_header(struct MHD_Connection *connection, const char *name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* The connection's socket, or -1. */
static inline int atoll_web_socket(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? (int)info->connect_fd : -1;
}

static inline int atoll_web_was_completed(enum MHD_RequestTerminationCode reason) {
    return reason == MHD_REQUEST_TERMINATED_COMPLETED_OK;
}

/* Milliseconds until it wants to run, or -1. */
static inline long long atoll_web_timeout(struct MHD_Daemon *daemon) {
    unsigned long long milliseconds = 0;
    if (MHD_get_timeout(daemon, &milliseconds) != MHD_YES) return -1;
    return milliseconds > 60000 ? 60000 : (long long)milliseconds;
}
