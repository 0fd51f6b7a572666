public import Digests
public import Primitives

/// TLS 1.3 over bytes that somebody else carries: the sessions of relayed streams, with the keys and rules of ``SecureTransport``. There is no
/// socket here; each call returns what follows from it. Confined to the loop.
public final class CarriedSessions {
    private let context: TLSContext
    private var sessions: [UInt64: TLSSession] = [:]
    private var secured: Set<UInt64> = []

    init(_ context: TLSContext) { self.context = context }
    public convenience init(_ identity: SigningKey) { self.init(TLSContext(identity)) }

    public func has(_ id: UInt64) -> Bool { sessions[id] != nil }

    /// - Parameter peer: whose key must answer.
    public func begin(_ id: UInt64, isClient: Bool, expecting peer: PeerID) -> [CarriedEvent] {
        let session = TLSSession(context, isClient: isClient, expecting: peer)
        sessions[id] = session
        return isClient ? shake(id, session) : []
    }
    /// Ciphertext that has come.
    public func receive(_ id: UInt64, _ ciphertext: [UInt8]) -> [CarriedEvent] {
        guard let session = sessions[id] else { return [] }
        ciphertext.withUnsafeBytes { session.feed($0) }
        var out = session.isDone ? [] : shake(id, session)
        guard secured.contains(id) else { return out }
        guard let plaintext = session.decrypt() else { return out + end(id) }
        flush(session, &out)
        if !plaintext.isEmpty { out.append(.plaintext(plaintext)) }
        return out
    }
    public func write(_ id: UInt64, _ plaintext: [UInt8]) -> [CarriedEvent] {
        guard secured.contains(id), let session = sessions[id] else { return [] }
        session.encrypt(plaintext)
        var out: [CarriedEvent] = []
        flush(session, &out)
        return out
    }
    /// What was written is still handed over; nothing follows.
    public func close(_ id: UInt64) -> [CarriedEvent] {
        guard let session = sessions[id] else { return [] }
        var out: [CarriedEvent] = []
        if secured.contains(id) { session.finish() }
        flush(session, &out)
        return out + end(id)
    }

    private func end(_ id: UInt64) -> [CarriedEvent] {
        sessions[id] = nil
        secured.remove(id)
        return [.ended]
    }
    private func shake(_ id: UInt64, _ session: TLSSession) -> [CarriedEvent] {
        let progress = session.handshake()
        var out: [CarriedEvent] = []
        flush(session, &out)
        switch progress {
        case .going: break
        case .failed: out += end(id)
        case .done:
            guard let peer = session.peer else { return out + end(id) }
            secured.insert(id)
            out.append(.secured(peer, exporter: session.exporter()))
        }
        return out
    }
    private func flush(_ session: TLSSession, _ out: inout [CarriedEvent]) {
        session.takeOutput { out.append(.ciphertext(Array($0))) }
    }
}
