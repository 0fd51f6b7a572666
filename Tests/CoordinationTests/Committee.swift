import Consensus
import Coordination
import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Wire

/// Machines that carry one record, with disks that can fail and lines that can be cut. What they say goes through the wire's bytes.
struct Committee {
    struct Machine {
        var desk: ElectorDesk?
        var entries: [PBEnvelope] = []
        var receipts: [PBEnvelope] = []
        var ballot: Ballot?
        var isBroken = false
        var committed = 0
        var events: [String] = []
        var proofs: [Contradiction] = []
        var convicted: [PeerID] = []
        var lost: [PeerID] = []
        var refusals: [(why: String, isPassing: Bool)] = []
        /// Entries before which its log stayed when the rest was put aside.
        var asides: [Int] = []
    }
    var machines: [Machine] = []
    var now = Instant.zero
    /// Who hears nobody, and is heard by nobody.
    var apart: Set<Int> = []
    private var mail: [(at: Instant, packet: [UInt8], from: Int, to: Int)] = []
    private var writes: [(at: Instant, request: StorageRequest, machine: Int)] = []
    /// Everybody knows who is an elector, as members of the job do.
    var admits = true

    static func key(_ index: Int) -> SigningKey { index == 0 ? Small.launcher : Small.key(index) }
    static let wall = WallClock(secondsAtZero: 1_000_000)

    init(_ count: Int) throws {
        let founder = try ElectorDesk(
            founding: "good", content: StoredBytes([1, 2, 3]), nonce: [UInt8](repeating: 1, count: 32),
            key: Self.key(0),
            provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
        machines = [Machine(desk: founder)]
        for index in 1..<count {
            var desk = try ElectorDesk(
                genesis: founder.record.envelopes[0], key: Self.key(index),
                provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
            desk.stand(true, at: now)
            machines.append(Machine(desk: desk))
        }
        for index in machines.indices { drain(index) }
    }
    static let parse: Record.Parser = { (_) throws(MalformedBytes) in
        var parameters = Small.parameters()
        parameters.electors = 3
        return parameters
    }

    // MARK: running

    mutating func run(_ seconds: Double) {
        let end = now + .nanoseconds(Int64(seconds * 1e9))
        while true {
            let wakes = machines.compactMap { $0.desk?.nextWake.map { max($0, now) } }
            guard let next = (mail.map(\.at) + writes.map(\.at) + wakes).min(), next <= end else { break }
            now = next
            while let index = mail.firstIndex(where: { $0.at <= now }) { deliver(mail.remove(at: index)) }
            while let index = writes.firstIndex(where: { $0.at <= now }) { write(writes.remove(at: index)) }
            for index in machines.indices where machines[index].desk?.nextWake.map({ $0 <= now }) ?? false {
                machines[index].desk!.wake(at: now)
                drain(index)
            }
        }
        now = end
    }
    private mutating func deliver(_ letter: (at: Instant, packet: [UInt8], from: Int, to: Int)) {
        guard !apart.contains(letter.from), !apart.contains(letter.to), machines[letter.to].desk != nil,
            case .election(let message)? = try? Packet(decoding: letter.packet).message
        else { return }
        machines[letter.to].desk!.receive(message, from: Self.key(letter.from).peerID, isElector: admits, at: now)
        drain(letter.to)
    }
    private mutating func write(_ write: (at: Instant, request: StorageRequest, machine: Int)) {
        let index = write.machine
        guard machines[index].desk != nil else { return }
        var outcome: StorageOutcome = machines[index].isBroken ? .failed("full") : .stored(path: "")
        if case .entry(_, let number, let envelope) = write.request, number < machines[index].entries.count,
            machines[index].entries[number] != envelope
        {
            outcome = .conflict("another entry \(number) is there")
        }
        if case .stored = outcome { apply(write.request, to: &machines[index]) }
        machines[index].desk!.stored(write.request.ticket, outcome, at: now)
        drain(index)
    }
    private func apply(_ request: StorageRequest, to machine: inout Machine) {
        switch request {
        case .entry(_, let index, let envelope):
            guard index < machine.entries.count else { return machine.entries.append(envelope) }
            #expect(machine.entries[index] == envelope, "another entry is there")
        case .receipt(_, let index, let envelope):
            if index == machine.receipts.count { machine.receipts.append(envelope) }
        case .setLogAside(_, let first):
            machine.entries.removeLast(max(0, machine.entries.count - first))
            machine.asides.append(first)
        case .truncate(_, let length): machine.entries.removeLast(max(0, machine.entries.count - length))
        case .ballot(_, _, let ballot): machine.ballot = ballot
        case .contradiction(let proof): machine.proofs.append(proof)
        default: break
        }
    }
    mutating func drain(_ index: Int) {
        while let effect = machines[index].desk?.poll() {
            switch effect {
            case .send(let packet, let peer):
                let to = machines.indices.first { Self.key($0).peerID == peer }!
                mail.append((now + .milliseconds(10), packet.bytes, index, to))
            case .store(let request): writes.append((now + .milliseconds(3), request, index))
            case .committed(let count): machines[index].committed = count
            case .certified: break
            case .event(let event): machines[index].events.append(event.kind)
            case .lead: propose(.opening(Opening(reason: "elected")), on: index)
            case .unfit(let peer, .hasLied): machines[index].convicted.append(peer)
            case .unfit(let peer, .hasLostItsDisk): machines[index].lost.append(peer)
            case .refused(_, let why, let isPassing): machines[index].refusals.append((why, isPassing))
            case .standBy, .over, .caughtUp: break
            }
        }
    }

    // MARK: what happens to them

    var leader: Int? {
        machines.indices.filter { machines[$0].desk?.leading != nil && !apart.contains($0) }
            .max { machines[$0].desk!.term < machines[$1].desk!.term }
    }
    /// As a coordinator does.
    mutating func propose(_ entry: Entry, receipts: [PBEnvelope] = [], on index: Int) {
        for receipt in receipts { machines[index].desk!.carry(receipt: receipt) }
        var record = machines[index].desk!.record
        guard let envelope = try? record.propose(entry, term: machines[index].desk!.leading!, by: Self.key(index))
        else {
            return
        }
        machines[index].desk!.carry(envelope, at: record.length - 1, now: now)
        drain(index)
    }
    /// Both steps to these electors.
    mutating func change(to members: [Int]) throws {
        let index = try #require(leader)
        let next = machines[index].desk!.record.electorate.changing(to: members.map { Self.key($0).peerID })
        propose(.electors(ElectorsChange(try #require(next), reason: "chosen")), on: index)
        run(0.5)
        let proof = try #require(machines[index].desk!.certificate)
        propose(.electors(ElectorsChange(try #require(next).changed, proof: proof, reason: "agreed")), on: index)
        run(0.5)
    }
    mutating func kill(_ index: Int) {
        machines[index].desk = nil
        writes.removeAll { $0.machine == index }
    }
    mutating func restart(_ index: Int) throws {
        let remains = JobRemains(log: machines[index].entries, receipts: machines[index].receipts)
        machines[index].desk = try ElectorDesk(
            restoring: remains, ballot: machines[index].ballot, key: Self.key(index),
            provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
        machines[index].desk!.stand(true, at: now)
        drain(index)
    }
    /// As a member's daemon does when it hears of an elector that it knows nothing of.
    mutating func restartBlank(_ index: Int) throws {
        machines[index].entries = []
        machines[index].receipts = []
        machines[index].ballot = nil
        machines[index].desk = try ElectorDesk(
            genesis: machines[0].entries[0], key: Self.key(index), provisions: ElectorDesk.Provisions(wall: Self.wall),
            isBlank: true, at: now, parse: Self.parse)
        machines[index].desk!.stand(true, at: now)
        drain(index)
    }
    func record(_ index: Int) -> Record { machines[index].desk!.record }
}

extension Packet {
    /// As a channel carries it.
    var bytes: [UInt8] {
        let framed = self.framed
        return framed.header + framed.payload
    }
}
