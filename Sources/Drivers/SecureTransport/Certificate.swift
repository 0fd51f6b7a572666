import COpenSSL
import Digests
import Primitives

/// A TLS 1.3 context with a self-signed Ed25519 certificate, made at run time; only its key means anything.
final class TLSContext {
    let raw: OpaquePointer
    /// `MBSTRING_UTF8`, a macro.
    private static let mbstringUTF8: Int32 = 0x1000
    /// Where an `SSL` keeps its ``TLSSession``.
    static let sessionIndex = atoll_SSL_ex_index()

    init(_ identity: SigningKey) {
        guard let context = SSL_CTX_new(TLS_method()),
            let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, identity.seed, 32),
            let certificate = Self.certificate(key)
        else { preconditionFailure("libssl lacks TLS 1.3 or Ed25519") }
        defer {
            EVP_PKEY_free(key)
            X509_free(certificate)
        }
        // AES-128 is the fastest where the processor helps; ChaCha20 elsewhere.
        let usable =
            atoll_SSL_CTX_tls13_only(context) == 1 && atoll_SSL_CTX_ed25519_only(context) == 1
            && SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1
            && SSL_CTX_use_certificate(context, certificate) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1
        precondition(usable, "libssl refuses TLS 1.3 with an Ed25519 certificate")
        atoll_SSL_CTX_no_sessions(context)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT) { _, store in
            TLSSession.verify(store)
        }
        raw = context
    }
    deinit { SSL_CTX_free(raw) }

    private static func certificate(_ key: OpaquePointer) -> OpaquePointer? {
        guard let certificate = X509_new(), let name = X509_get_subject_name(certificate) else { return nil }
        X509_set_version(certificate, 2)
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1)
        // Times are not looked at: clocks of home computers are wrong. A day before now to a year after.
        X509_gmtime_adj(X509_getm_notBefore(certificate), -86_400)
        X509_gmtime_adj(X509_getm_notAfter(certificate), 366 * 86_400)
        X509_NAME_add_entry_by_txt(name, "CN", mbstringUTF8, "atoll", -1, -1, 0)
        let made =
            X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1
            && X509_sign(certificate, key, nil) > 0
        return made ? certificate : nil
    }
}
