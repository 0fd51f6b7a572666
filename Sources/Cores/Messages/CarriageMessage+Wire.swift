public import Paths
import Primitives
import Wire

extension CarriageMessage {
    /// - Parameter payload: of data the bytes; of all others nothing.
    init(_ m: PBCarriage, payload: [UInt8]) throws(MalformedBytes) {
        let leg = m.leg
        switch m.body {
        case .reserve(let body): self = .reserve(leads: body.leads)
        case .terms(let body): self = .terms(try BerthTerms(body))
        case .release: self = .release
        case .carried(let body):
            self = .carried(
                try list(body.peers, atMost: Self.mostCarried, "carried peers") { (one) throws(MalformedBytes) in
                    CarriedPeer(try peerID(one.peer), leads: one.leads)
                },
                rate: try relayRate(body.rateBits))
        case .open(let body): self = .open(leg: leg, to: try peerID(body.peer))
        case .incoming(let body):
            self = .incoming(leg: leg, from: try peerID(body.peer), at: try endpoint(body.endpoint))
        case .opened(let body): self = .opened(leg: leg, at: try endpoint(body.endpoint))
        case .data:
            guard !payload.isEmpty, payload.count <= Self.dataBytes else {
                throw MalformedBytes("\(payload.count) bytes of a circuit")
            }
            self = .data(leg: leg, payload)
        case .credit(let body):
            self = .credit(leg: leg, bytes: try bounded(body.bytes, below: RelayLimits.window + 1, "credit"))
        case .closed(let body):
            // A reason that is not known here is no reason to keep the circuit.
            self = .closed(leg: leg, CircuitEnd(rawValue: UInt8(clamping: body.why)) ?? .done)
        case .ways(let body):
            self = .ways(try list(body.endpoints, atMost: Self.mostWays, "ways", endpoint))
        case .meet(let body):
            // A kind of router that is not known here is one of which nothing is known.
            var meeting = Meeting(
                try peerID(body.peer), number: body.number,
                mapping: PortMapping(rawValue: UInt8(clamping: body.mapping)) ?? .unknown,
                endpoints: try list(body.endpoints, atMost: Meeting.mostEndpoints, "endpoints", endpoint))
            let port = try bounded(body.datagramPort, below: 1 << 16, "a port")
            if port > 0 {
                meeting.datagrams = DatagramPort(
                    UInt16(port), PortMapping(rawValue: UInt8(clamping: body.datagramMapping)) ?? .unknown)
            }
            self = .meet(meeting)
        case .ready(let body): self = .ready(try peerID(body.peer), number: body.number)
        case .go(let body): self = .go(try peerID(body.peer), number: body.number)
        case .unmet(let body):
            self = .unmet(
                try peerID(body.peer), number: body.number,
                UnmetReason(rawValue: UInt8(clamping: body.why)) ?? .refused)
        case nil: throw MalformedBytes("a message of relays of an unknown kind")
        }
    }

    /// Writes the header; returns the payload.
    func encode(into m: inout PBCarriage) -> [UInt8] {
        switch self {
        case .reserve(let leads): m.reserve.leads = leads
        case .terms(let terms): m.terms = terms.encoded
        case .release: m.release = PBCarriage.Release()
        case .carried(let peers, let rate):
            m.carried.rateBits = UInt64(max(0, min(rate.bitsPerSecond, 1e15)))
            m.carried.peers = peers.map { peer in
                var one = PBCarriage.Carried.One()
                one.peer = bytesOf(peer.peer)
                one.leads = peer.leads
                return one
            }
        case .open(let leg, let peer):
            m.leg = leg
            m.open.peer = bytesOf(peer)
        case .incoming(let leg, let peer, let endpoint):
            m.leg = leg
            m.incoming.peer = bytesOf(peer)
            m.incoming.endpoint = bytesOf(endpoint.compact)
        case .opened(let leg, let endpoint):
            m.leg = leg
            m.opened.endpoint = bytesOf(endpoint.compact)
        case .data(let leg, let bytes):
            m.leg = leg
            m.data = PBCarriage.DataMessage()
            return bytes
        case .credit(let leg, let bytes):
            m.leg = leg
            m.credit.bytes = UInt32(bytes)
        case .closed(let leg, let why):
            m.leg = leg
            m.closed.why = UInt32(why.rawValue)
        case .ways(let endpoints): m.ways.endpoints = endpoints.map { bytesOf($0.compact) }
        case .meet(let meeting):
            m.meet.peer = bytesOf(meeting.peer)
            m.meet.number = meeting.number
            m.meet.mapping = UInt32(meeting.mapping.rawValue)
            m.meet.endpoints = meeting.endpoints.map { bytesOf($0.compact) }
            m.meet.datagramPort = UInt32(meeting.datagrams?.number ?? 0)
            m.meet.datagramMapping = UInt32(meeting.datagrams?.mapping.rawValue ?? 0)
        case .ready(let peer, let number):
            m.ready.peer = bytesOf(peer)
            m.ready.number = number
        case .go(let peer, let number):
            m.go.peer = bytesOf(peer)
            m.go.number = number
        case .unmet(let peer, let number, let why):
            m.unmet.peer = bytesOf(peer)
            m.unmet.number = number
            m.unmet.why = UInt32(why.rawValue)
        }
        return []
    }
}

private func relayRate(_ bits: UInt64) throws(MalformedBytes) -> BitRate {
    BitRate(bitsPerSecond: Double(try bounded(bits, below: Bounds.amount, "rate of a relay")))
}

extension BerthTerms {
    init(_ m: PBCarriage.Terms) throws(MalformedBytes) {
        guard let answer = Answer(rawValue: UInt8(clamping: m.answer)) else {
            throw MalformedBytes("an answer \(m.answer) about a berth")
        }
        self.init(
            answer, life: .seconds(Int64(try bounded(m.lifeSeconds, below: 1 << 24, "seconds of a berth"))),
            rate: try relayRate(m.rateBits),
            left: ByteCount(try bounded(m.leftBytes, below: Bounds.amount, "bytes of a relay")),
            circuits: try bounded(m.circuits, below: 1 << 16, "circuits"),
            seen: m.seen.isEmpty ? nil : try endpoint(m.seen))
    }
    var encoded: PBCarriage.Terms {
        var m = PBCarriage.Terms()
        m.answer = UInt32(answer.rawValue)
        m.lifeSeconds = UInt32(max(0, life.inSeconds))
        m.rateBits = UInt64(max(0, min(rate.bitsPerSecond, 1e15)))
        m.leftBytes = UInt64(max(0, left.bytes))
        m.circuits = UInt32(circuits)
        if let seen { m.seen = bytesOf(seen.compact) }
        return m
    }
}
