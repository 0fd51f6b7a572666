#pragma once
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
/* Function-like macros do not reach Swift. */
static inline int atoll_SSL_CTX_tls13_only(SSL_CTX *c) {
    return SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) && SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION);
}
static inline int atoll_SSL_CTX_ed25519_only(SSL_CTX *c) {
    return SSL_CTX_set1_sigalgs_list(c, "ed25519") && SSL_CTX_set1_groups_list(c, "X25519");
}
/* No tickets, no sessions: every connection proves both keys. */
static inline void atoll_SSL_CTX_no_sessions(SSL_CTX *c) {
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
}
static inline size_t atoll_BIO_mem_data(BIO *b, char **p) { return (size_t)BIO_get_mem_data(b, p); }
static inline int atoll_BIO_reset(BIO *b) { return (int)BIO_reset(b); }
static inline int atoll_SSL_ex_index(void) { return SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL); }
