import Paths
import Primitives
import Wire

extension Message {
    /// - Parameter payload: the raw bytes after the header; only some kinds of messages have any.
    init(_ packet: PBPacket, payload: [UInt8]) throws(MalformedBytes) {
        guard let body = packet.body else { throw MalformedBytes("a packet of an unknown kind") }
        if let message = try Self.meeting(body, payload) {
            self = message
        } else if let message = try Self.command(body) {
            self = message
        } else if let message = try Self.report(body) {
            self = message
        } else {
            self = try Self.work(body, payload)
        }
        if !payload.isEmpty {
            switch self {
            case .activation, .exchangePart, .chunk, .probeBurst, .carriage(.data): break
            default: throw MalformedBytes("\(payload.count) bytes after a message that has none")
            }
        }
    }

    private static func meeting(
        _ body: PBPacket.OneOf_Body, _ payload: [UInt8]
    ) throws(MalformedBytes) -> Message? {
        switch body {
        case .capabilityRequest: .capabilityRequest
        case .capability(let m): .capability(try Capability(m))
        case .offer(let m): .offer(try Offer(m))
        case .offerAnswer(let m): .offerAnswer(try OfferAnswer(m))
        case .ping(let m): .ping(m.nonce)
        case .pong(let m): .pong(m.nonce)
        case .probeBurst(let m): .probeBurst(try ProbeBurst(m, bytes: payload.count))
        case .logRequest(let m) where m.reading:
            .readRequest(from: try bounded(m.from, below: Bounds.counter, "log index"))
        default: nil
        }
    }
    private static func command(_ body: PBPacket.OneOf_Body) throws(MalformedBytes) -> Message? {
        switch body {
        case .lease(let m): .lease(try Lease(m))
        case .logEntries(let m): .logEntries(try LogEntries(m))
        case .probeOrder(let m): .probeOrder(try ProbeOrder(m))
        case .group(let m): .group(try GroupTerms(m))
        case .audit(let m): .auditOrder(try AuditOrder(m))
        case .dismissal(let m): .dismissal(try Dismissal(m))
        default: nil
        }
    }
    private static func report(_ body: PBPacket.OneOf_Body) throws(MalformedBytes) -> Message? {
        switch body {
        case .heartbeat(let m): .heartbeat(try Heartbeat(m))
        case .readiness(let m): .readiness(try Readiness(m))
        case .kept(let m): .kept(try list(m.stages, atMost: KeptStage.most, "round starts", KeptStage.init))
        case .setback(let m): .setback(try Setback(m))
        case .fitness(let m): .fitness(Fitness(m))
        case .logRequest(let m): .logRequest(from: try bounded(m.from, below: Bounds.counter, "log index"))
        case .probeResult(let m): .probeResult(try ProbeResult(m))
        case .paths(let m): .paths(try PeerPaths(m))
        case .receipt(let m): .receipt(m.envelope)
        case .held(let m): .held(try Held(m))
        case .gathered(let m): .gathered(try Gathered(m))
        case .applied(let m): .applied(try Applied(m))
        case .objection(let m): .objection(try Objection(m))
        case .audited(let m): .audited(try Audited(m))
        case .farewell(let m): .farewell(reason: cleaned(m.reason, bytes: Bounds.reasonBytes))
        default: nil
        }
    }
    private static func work(_ body: PBPacket.OneOf_Body, _ payload: [UInt8]) throws(MalformedBytes) -> Message {
        switch body {
        case .activation(let m): return .activation(try Activation(m), payload: payload)
        case .norms(let m): return .norms(try Norms(m))
        case .exchangePart(let m): return .exchangePart(try ExchangePart(m, payload: payload))
        case .indexRequest(let m):
            return .indexRequest(
                content: try digest(m.content), first: try bounded(m.first, below: Bounds.contentChunks, "index entry"))
        case .contentIndex(let m): return .indexPart(try IndexPart(m))
        case .chunkRequest(let m):
            return .chunkRequest(
                content: try digest(m.content), chunk: try bounded(m.chunk, below: Bounds.contentChunks, "chunk"))
        case .chunk(let m):
            let content = try digest(m.content)
            let chunk = try bounded(m.chunk, below: Bounds.contentChunks, "chunk")
            guard payload.count <= ContentIndex.chunkBytes else {
                throw MalformedBytes("a chunk of \(payload.count) bytes")
            }
            return m.missing
                ? .chunkMissing(content: content, chunk: chunk) : .chunk(content: content, chunk: chunk, bytes: payload)
        case .stateRequest(let m): return .stateRequest(try StateRequest(m))
        case .stateOffer(let m): return .stateOffer(try StateOffer(m))
        case .election(let m): return .election(try ElectionMessage(m))
        case .carriage(let m): return .carriage(try CarriageMessage(m, payload: payload))
        default: throw MalformedBytes("a packet of an unknown kind")
        }
    }

    /// Writes the header; returns the payload.
    func encode(into packet: inout PBPacket) -> [UInt8] {
        switch self {
        case .capabilityRequest: packet.capabilityRequest = PBCapabilityRequest()
        case .capability(let m): packet.capability = m.encoded
        case .offer(let m): packet.offer = m.encoded
        case .offerAnswer(let m): packet.offerAnswer = m.encoded
        case .ping(let nonce): packet.ping.nonce = nonce
        case .pong(let nonce): packet.pong.nonce = nonce
        case .readRequest(let from):
            packet.logRequest.from = UInt64(from)
            packet.logRequest.reading = true
        case .probeBurst(let m):
            packet.probeBurst = m.encoded
            return [UInt8](repeating: UInt8(truncatingIfNeeded: m.part), count: m.bytes)
        case .lease(let m): packet.lease = m.encoded
        case .logEntries(let m): packet.logEntries = m.encoded
        case .probeOrder(let m): packet.probeOrder = m.encoded
        case .group(let m): packet.group = m.encoded
        case .auditOrder(let m): packet.audit = m.encoded
        case .dismissal(let m): packet.dismissal = m.encoded
        case .receipt(let envelope): packet.receipt.envelope = envelope
        case .farewell(let reason): packet.farewell.reason = reason
        case .logRequest(let from): packet.logRequest.from = UInt64(from)
        default: return encodeMore(into: &packet)
        }
        return []
    }
    private func encodeMore(into packet: inout PBPacket) -> [UInt8] {
        switch self {
        case .heartbeat(let m): packet.heartbeat = m.encoded
        case .readiness(let m): packet.readiness = m.encoded
        case .kept(let stages): packet.kept.stages = stages.map(\.encoded)
        case .setback(let m): packet.setback = m.encoded
        case .fitness(let m): packet.fitness = m.encoded
        case .probeResult(let m): packet.probeResult = m.encoded
        case .paths(let m): packet.paths = m.encoded
        case .held(let m): packet.held = m.encoded
        case .gathered(let m): packet.gathered = m.encoded
        case .applied(let m): packet.applied = m.encoded
        case .objection(let m): packet.objection = m.encoded
        case .audited(let m): packet.audited = m.encoded
        case .activation(let m, let payload):
            packet.activation = m.encoded
            return payload
        case .norms(let m): packet.norms = m.encoded
        case .exchangePart(let m):
            packet.exchangePart = m.encoded
            return m.payload
        case .indexRequest(let content, let first):
            packet.indexRequest.content = bytesOf(content)
            packet.indexRequest.first = UInt64(first)
        case .indexPart(let m): packet.contentIndex = m.encoded
        case .chunkRequest(let content, let chunk):
            packet.chunkRequest.content = bytesOf(content)
            packet.chunkRequest.chunk = UInt32(chunk)
        case .chunk(let content, let chunk, let bytes):
            packet.chunk.content = bytesOf(content)
            packet.chunk.chunk = UInt32(chunk)
            return bytes
        case .chunkMissing(let content, let chunk):
            packet.chunk.content = bytesOf(content)
            packet.chunk.chunk = UInt32(chunk)
            packet.chunk.missing = true
        case .stateRequest(let m): packet.stateRequest = m.encoded
        case .stateOffer(let m): packet.stateOffer = m.encoded
        case .election(let m): packet.election = m.encoded
        case .carriage(let m): return m.encode(into: &packet.carriage)
        default: break
        }
        return []
    }
}
