internal import Digests
public import Primitives

extension FlowHost {
    /// Beyond it the clock was set, or the machine slept.
    private static let mostAge: Duration = .milliseconds(200)

    /// Datagrams of one sender, each `segment` bytes but the last. They are opened in place: what the memory holds afterwards means nothing.
    /// - Parameter age: how long they have been on this machine: a process that is late is not a line that is full.
    public mutating func receive(
        _ bytes: UnsafeMutableRawBufferPointer, segment: Int, from sender: Endpoint, at now: Instant,
        age: Duration = .zero
    ) {
        touch(now)
        arrived = now - (age <= Self.mostAge ? age : .zero)
        var start = 0
        while start < bytes.count {
            let end = min(start + max(1, segment), bytes.count)
            receive(UnsafeMutableRawBufferPointer(rebasing: bytes[start..<end]), from: sender)
            start = end
        }
    }
    public mutating func receive(_ datagram: [UInt8], from sender: Endpoint, at now: Instant) {
        var copy = datagram
        copy.withUnsafeMutableBytes { receive($0, segment: $0.count, from: sender, at: now) }
    }

    private mutating func receive(_ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint) {
        guard let form = datagram.first.flatMap(FlowPacket.Form.init) else {
            counters.malformed += 1
            return
        }
        switch form {
        case .hello: hello(datagram, from: sender)
        case .welcome: welcome(datagram, from: sender)
        case .begin, .packet: packet(form, datagram, from: sender)
        case .gone: gone(datagram, from: sender)
        case .opener: counters.openers += 1
        }
    }

    // MARK: the opening

    mutating func greet(_ slot: Int) {
        guard case .greeting(let tries) = flows[slot].state else { return }
        flows[slot].state = .greeting(tries + 1)
        flows[slot].clock.sentAt = now
        flows[slot].maker = makers[0]
        let hello = FlowPacket.hello(
            connection: flows[slot].names.local, salt: random.bytes(FlowPacket.saltBytes), makers[0])
        effects.push(.send(FlowBurst(bytes: hello, segment: hello.count, to: flows[slot].remote)))
    }
    /// Answers without remembering anything; the answer is a seventeenth of the question.
    private mutating func hello(_ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint) {
        guard datagram.count >= FlowLimits.leastDatagram else {
            counters.malformed += 1
            return
        }
        let salt = Array(datagram[1..<FlowPacket.helloHead])
        let context = FlowPacket.context(.hello, salt: salt)
        let maker = withAnyKey(datagram) { maker, datagram in
            maker.seal(for: context).open(datagram, clear: FlowPacket.helloHead, number: 0) ? maker : nil
        }
        guard let maker else {
            counters.unsealed += 1
            return
        }
        var reader = PacketReader(UnsafeRawBufferPointer(rebasing: datagram[FlowPacket.helloHead...]))
        guard reader.byte() == FlowPacket.version, let asker = reader.integer(8) else {
            counters.malformed += 1
            return
        }
        let ticket = jar.ticket(for: sender, connection: asker, at: now)
        let bytes = FlowPacket.welcome(to: asker, ticket, salt: random.bytes(FlowPacket.saltBytes), maker)
        effects.push(.send(FlowBurst(bytes: bytes, segment: bytes.count, to: sender)))
    }
    /// Tries the pool's keys in turn on a datagram that is opened in place: what does not open it leaves it as it came.
    private func withAnyKey<T>(
        _ datagram: UnsafeMutableRawBufferPointer, _ open: (any SealMaker, UnsafeMutableRawBufferPointer) -> T?
    ) -> T? {
        if makers.count == 1 { return open(makers[0], datagram) }
        let came = [UInt8](datagram)
        for maker in makers {
            if let opened = open(maker, datagram) { return opened }
            datagram.copyBytes(from: came)
        }
        return nil
    }
    private mutating func welcome(_ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint) {
        guard datagram.count == FlowPacket.welcomeBytes else {
            counters.malformed += 1
            return
        }
        var head = PacketReader(UnsafeRawBufferPointer(datagram))
        _ = head.byte()
        guard let asker = head.integer(8), let slot = connections[asker], flows[slot].remote == sender,
            case .greeting(let tries) = flows[slot].state
        else {
            counters.unknown += 1
            return
        }
        guard unseal(datagram, as: .welcome, with: flows[slot].maker) else { return }
        var reader = PacketReader(UnsafeRawBufferPointer(rebasing: datagram[FlowPacket.welcomeHead...]))
        guard let other = reader.integer(8), let cookie = reader.take(CookieJar.cookieBytes) else { return }
        flows[slot].names.other = other
        flows[slot].names.cookie = Array(cookie)
        flows[slot].state = .beginning
        flows[slot].clock.heardAt = now
        flows[slot].derive()
        if tries == 1 { flows[slot].roundTrip.measured(arrived - flows[slot].clock.sentAt, delay: .zero) }
        // The other end learns of the flow by a packet, whether or not there is anything to say.
        flows[slot].marks.insert(.ping)
        effects.push(.opened(flows[slot].names.id, remote: sender, isInbound: false))
    }
    /// A packet with a cookie for nobody that is known: if the cookie is good, this is where state begins.
    private mutating func begin(_ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint) -> Int? {
        var reader = PacketReader(UnsafeRawBufferPointer(datagram))
        _ = reader.byte()
        guard let local = reader.integer(8), reader.integer(4) != nil, let asker = reader.integer(8),
            let cookie = reader.take(CookieJar.cookieBytes),
            jar.check(Array(cookie), from: sender, connection: asker, at: now) == local
        else {
            counters.cookies += 1
            return nil
        }
        let source = SourceAddress(sender)
        guard flows.count < FlowLimits.flows, flows.count(where: { $0.names.isInbound }) < FlowLimits.inbound,
            flows.count(where: { $0.names.isInbound && SourceAddress($0.remote) == source })
                < FlowLimits.inboundOfSource
        else {
            counters.crowded += 1
            return nil
        }
        let names = Flow.Names(id: nextInbound, isInbound: true, local: local, other: asker)
        let (sizes, seed, now) = (sizes, random.next(), now)
        let made = withAnyKey(datagram) { maker, datagram in
            var flow = Flow(names, maker, sender, .open, sizes: sizes, seed: seed, at: now)
            flow.derive()
            guard case .number = flow.open(datagram, .begin) else { return Flow?.none }
            return flow
        }
        guard let flow = made else {
            counters.unsealed += 1
            return nil
        }
        nextInbound += 2
        effects.push(.opened(names.id, remote: sender, isInbound: true))
        return add(flow)
    }

    // MARK: packets

    /// - Returns: the number of what was opened; nil, and counted, when nothing was.
    private mutating func count(_ opening: Flow.Opening) -> UInt64? {
        switch opening {
        case .number(let number): return number
        case .malformed: counters.malformed += 1
        case .seen: counters.duplicates += 1
        case .unsealed: counters.unsealed += 1
        }
        return nil
    }
    private mutating func packet(
        _ form: FlowPacket.Form, _ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint
    ) {
        guard datagram.count >= FlowPacket.packetHead + FlowLimits.tag else {
            counters.malformed += 1
            return
        }
        var head = PacketReader(UnsafeRawBufferPointer(datagram), from: 1)
        let id = head.integer(8)!
        let number: UInt64
        let slot: Int
        if let known = connections[id], flows[known].isReady {
            guard let opened = count(flows[known].open(datagram, form)) else { return }
            (slot, number) = (known, opened)
        } else if form == .begin {
            guard let made = begin(datagram, from: sender) else { return }
            (slot, number) = (made, head.integer(4)!)
        } else {
            return unknown(id, size: datagram.count, from: sender)
        }
        let text = UnsafeRawBufferPointer(rebasing: datagram[form.headBytes..<datagram.count - FlowLimits.tag])
        take(slot, number, text, size: datagram.count, from: sender)
    }
    private mutating func take(
        _ slot: Int, _ number: UInt64, _ text: UnsafeRawBufferPointer, size: Int, from sender: Endpoint
    ) {
        let isNewest = number >= flows[slot].received.expected
        let answer = flows[slot].receive(text, at: arrived)
        if let verdict = answer.verdict {
            counters.lost += verdict.lost.count
            let line = flows[slot].line
            flows[slot].apply(verdict, &lines[line], slot: slot, at: now)
        }
        switch answer.outcome {
        case .taken: break
        case .refused: return
        case .violation:
            counters.violations += 1
            let id = flows[slot].names.id
            let isKnown = numbers[id] == slot
            remove(slot, saying: .violated)
            if isKnown { effects.push(.closed(id, .violated)) }
            return
        case .closed(let why): return end(slot, why)
        }
        flows[slot].clock.heardAt = now
        flows[slot].received.receive(number, elicits: answer.elicits, at: arrived)
        if flows[slot].state == .beginning { flows[slot].state = .open }
        if let challenge = answer.challenged, size >= FlowPacket.challengeBytes {
            alone(slot, .response, challenge, to: sender)
        }
        if sender != flows[slot].remote {
            moved(slot, isNewest, answer.responded, size: size, from: sender)
        } else if isNewest {
            flows[slot].move = nil
        }
    }
    private mutating func alone(_ slot: Int, _ kind: FlowFrame.Kind, _ value: UInt64, to endpoint: Endpoint) {
        let bytes = flows[slot].writeAlone(kind, value, width: 8, at: now)
        effects.push(.send(FlowBurst(bytes: bytes, segment: bytes.count, to: endpoint)))
    }
    /// A packet came from elsewhere. Whoever is there must show that answers reach it before anything else is sent there (RFC 9000, §9.3).
    private mutating func moved(_ slot: Int, _ isNewest: Bool, _ response: UInt64?, size: Int, from sender: Endpoint) {
        if let move = flows[slot].move, move.candidate == sender {
            if response == move.challenge {
                counters.moves += 1
                flows[slot].arriveElsewhere(sender, sizes: sizes, at: now)
                effects.push(.moved(flows[slot].names.id, to: sender))
            } else if move.tries < 8, now - move.askedAt >= .milliseconds(100), size >= FlowPacket.challengeBytes {
                flows[slot].move!.tries += 1
                flows[slot].move!.askedAt = now
                alone(slot, .challenge, move.challenge, to: sender)
            }
            return
        }
        guard isNewest, size >= FlowPacket.challengeBytes else { return }
        // One candidate at a time, and not another one at once: whoever repeats packets from many places learns nothing and costs little.
        if let move = flows[slot].move, now - move.askedAt < .milliseconds(100) { return }
        let challenge = random.next()
        flows[slot].move = Flow.Move(candidate: sender, challenge: challenge, askedAt: now)
        alone(slot, .challenge, challenge, to: sender)
    }

    // MARK: what nobody has

    /// Says that a flow is not known here, with fewer bytes than were asked with, ten times a second.
    private mutating func unknown(_ connection: UInt64, size: Int, from sender: Endpoint) {
        counters.unknown += 1
        guard size >= FlowPacket.goneBytes, now - goneAt >= .milliseconds(100) else { return }
        goneAt = now
        let bytes = FlowPacket.gone(connection, salt: random.bytes(FlowPacket.saltBytes), makers[0])
        effects.push(.send(FlowBurst(bytes: bytes, segment: bytes.count, to: sender)))
    }
    /// The other end does not know a flow; believed of whom it is with, who alone knows its ID there.
    private mutating func gone(_ datagram: UnsafeMutableRawBufferPointer, from sender: Endpoint) {
        guard datagram.count == FlowPacket.goneBytes else {
            counters.malformed += 1
            return
        }
        let id = datagram[1..<9].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard
            let slot = flows.first(where: { $0.names.other == id && $0.remote == sender && $0.seals != nil })
        else {
            counters.unknown += 1
            return
        }
        let context = FlowPacket.context(.gone, salt: datagram[9..<FlowPacket.welcomeHead])
        let isOurs = makers.contains {
            $0.seal(for: context).open(datagram, clear: FlowPacket.welcomeHead, number: 0)
        }
        guard isOurs else {
            counters.unsealed += 1
            return
        }
        // A beginning one is not known there because its first packet was lost.
        if flows[slot].state != .beginning { end(slot, .forgotten) }
    }
    /// Opens an answer that has an ID and a salt before its seal, in place; one that is not of the pool is counted.
    private mutating func unseal(
        _ datagram: UnsafeMutableRawBufferPointer, as form: FlowPacket.Form, with maker: any SealMaker
    ) -> Bool {
        let seal = maker.seal(for: FlowPacket.context(form, salt: datagram[9..<FlowPacket.welcomeHead]))
        guard seal.open(datagram, clear: FlowPacket.welcomeHead, number: 0) else {
            counters.unsealed += 1
            return false
        }
        return true
    }
}
