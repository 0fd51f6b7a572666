#pragma once
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* What Swift cannot call: functions of any number of arguments. */

/* A daemon that runs when it is told to, on a socket that listens already. */
static inline struct MHD_Daemon *atoll_web_start(
    int socket, MHD_AccessHandlerCallback handler, void *handler_context, MHD_RequestCompletedCallback completed,
    void *completed_context, unsigned int connections, unsigned int per_address, unsigned int idle_seconds,
    size_t memory_per_connection) {
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handler, handler_context, MHD_OPTION_LISTEN_SOCKET,
        socket, MHD_OPTION_NOTIFY_COMPLETED, completed, completed_context, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory_per_connection, MHD_OPTION_END);
}

static inline int atoll_web_descriptor(struct MHD_Daemon *daemon) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info ? info->epoll_fd : -1;
}

/* The client's address, in network order; its length, or 0. */
static inline int atoll_web_client(struct MHD_Connection *connection, struct sockaddr_storage *address) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || !info->client_addr) return 0;
    int length = info->client_addr->sa_family == AF_INET ? (int)sizeof(struct sockaddr_in)
                 : info->client_addr->sa_family == AF_INET6 ? (int)sizeof(struct sockaddr_in6)
                                                            : 0;
    __builtin_memcpy(address, info->client_addr, (size_t)length);
    return length;
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
/* Connections that are open now. */
static inline unsigned atoll_web_connections(struct MHD_Daemon *daemon) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info ? info->num_connections : 0;
}

static inline long long atoll_web_timeout(struct MHD_Daemon *daemon) {
    unsigned long long milliseconds = 0;
    if (MHD_get_timeout(daemon, &milliseconds) != MHD_YES) return -1;
    return milliseconds > 60000 ? 60000 : (long long)milliseconds;
}
