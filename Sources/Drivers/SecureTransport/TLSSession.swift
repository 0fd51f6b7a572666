import COpenSSL
import Primitives

/// One end of a TLS 1.3 connection over memory: ciphertext in and out, plaintext out and in. No socket.
final class TLSSession {
    enum Progress: Equatable {
        case going, done
        case failed(String)
    }
    static let exporterLabel = "EXPORTER-atoll-pool"
    private static let recordBytes = 16_384
    private let ssl: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    private let context: TLSContext
    private let expected: PeerID?
    /// Whose key the other certificate holds; proven once the handshake is done.
    private(set) var peer: PeerID?
    private(set) var isDone = false
    let isClient: Bool

    /// - Parameter expected: the only peer whose key is accepted; nil accepts any Ed25519 key.
    init(_ context: TLSContext, isClient: Bool, expecting expected: PeerID?) {
        self.context = context
        self.isClient = isClient
        self.expected = expected
        guard let ssl = SSL_new(context.raw), let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem())
        else { preconditionFailure("libssl is out of memory") }
        (self.ssl, self.incoming, self.outgoing) = (ssl, incoming, outgoing)
        SSL_set_bio(ssl, incoming, outgoing)
        SSL_set_ex_data(ssl, TLSContext.sessionIndex, Unmanaged.passUnretained(self).toOpaque())
        if isClient { SSL_set_connect_state(ssl) } else { SSL_set_accept_state(ssl) }
    }
    deinit { SSL_free(ssl) }

    /// Accepts exactly one self-signed Ed25519 leaf, of the expected peer where one is. The handshake itself proves that the
    /// other side holds the key; names, times and chains mean nothing here.
    static func verify(_ store: OpaquePointer?) -> Int32 {
        guard let store, X509_STORE_CTX_get_error_depth(store) == 0,
            let leaf = X509_STORE_CTX_get_current_cert(store),
            let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
            let data = SSL_get_ex_data(OpaquePointer(ssl), TLSContext.sessionIndex),
            let key = X509_get0_pubkey(leaf), EVP_PKEY_get_id(key) == EVP_PKEY_ED25519
        else { return 0 }
        var bytes = [UInt8](repeating: 0, count: 32)
        var count = 32
        guard EVP_PKEY_get_raw_public_key(key, &bytes, &count) == 1, let peer = PeerID(bytes) else { return 0 }
        let session = Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
        session.peer = peer
        if let expected = session.expected, expected != peer {
            X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION)
            return 0
        }
        X509_STORE_CTX_set_error(store, X509_V_OK)
        return 1
    }

    /// Another peer than the expected one answered.
    var isImpostor: Bool { expected != nil && peer != nil && peer != expected }

    /// Goes on with the handshake as far as the bytes allow.
    func handshake() -> Progress {
        if isDone { return .done }
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        if result == 1 {
            isDone = true
            return .done
        }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .going
        default: return .failed(Self.lastError())
        }
    }
    /// 32 bytes that both ends derive from this session (RFC 8446, §7.5), for the proof of the pool's key.
    func exporter() -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        let label = Self.exporterLabel
        let made = SSL_export_keying_material(ssl, &out, 32, label, label.utf8.count, nil, 0, 0)
        precondition(made == 1, "no exporter from a finished handshake")
        return out
    }

    func feed(_ ciphertext: UnsafeRawBufferPointer) {
        BIO_write(incoming, ciphertext.baseAddress, Int32(ciphertext.count))
    }
    /// All plaintext that can be had now; nil when the stream is broken or ended.
    func decrypt() -> [UInt8]? {
        var plaintext: [UInt8] = []
        while true {
            let chunk = max(Self.recordBytes, min(BIO_ctrl_pending(incoming), 262_144))
            var failed = false
            let piece = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, used in
                while used < chunk {
                    var count = 0
                    ERR_clear_error()
                    let result = SSL_read_ex(ssl, buffer.baseAddress! + used, chunk - used, &count)
                    if result == 1 {
                        used += count
                        continue
                    }
                    failed = SSL_get_error(ssl, result) != SSL_ERROR_WANT_READ
                    break
                }
            }
            if plaintext.isEmpty { plaintext = piece } else { plaintext += piece }
            if failed { return plaintext.isEmpty ? nil : plaintext }
            if piece.count < chunk { return plaintext }
        }
    }
    func encrypt(_ plaintext: [UInt8]) {
        plaintext.withUnsafeBytes { bytes in
            var rest = bytes
            while !rest.isEmpty {
                var count = 0
                let result = SSL_write_ex(ssl, rest.baseAddress, min(rest.count, Self.recordBytes), &count)
                // Memory never blocks; a session that failed is closed by its reader.
                guard result == 1, count > 0 else { return }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
    /// Says that no more plaintext will come.
    func finish() { SSL_shutdown(ssl) }
    /// Hands over all ciphertext that waits.
    func takeOutput(_ body: (UnsafeRawBufferPointer) -> Void) {
        var start: UnsafeMutablePointer<CChar>?
        let count = atoll_BIO_mem_data(outgoing, &start)
        guard count > 0 else { return }
        body(UnsafeRawBufferPointer(start: start, count: count))
        _ = atoll_BIO_reset(outgoing)
    }

    private static func lastError() -> String {
        let code = ERR_get_error()
        guard code != 0, let reason = ERR_reason_error_string(code) else { return "the handshake broke off" }
        return String(cString: reason)
    }
}
