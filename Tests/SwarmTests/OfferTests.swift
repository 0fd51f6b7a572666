import Digests
import Planning
import Primitives
import Swarm
import Testing
import Training
import Wire

@Suite struct `Offers` {
    static let manifest: String = {
        var job = JobManifest(name: "small", model: Small.model, data: .path("text"), tokens: 1000)
        job.microBatch = 1
        return job.canonicalText
    }()

    /// A member whose owner accepts the launcher, its speed measured.
    private func member(accepting launchers: [PeerID] = [Small.launcher.peerID]) -> Member {
        var member = Member(
            key: Small.key(1),
            terms: MemberTerms(name: "laptop", device: "", memory: .mebibytes(64), accepts: launchers), at: .zero)
        var now = Instant.zero
        while let effect = member.poll() {
            guard case .compute = effect else { continue }
            now += .milliseconds(10)
            member.computed(.done, at: now)
        }
        return member
    }
    private func genesis(_ manifest: String = manifest, by key: SigningKey = Small.launcher) -> PBEnvelope {
        JobLog.genesis(manifest: manifest, content: sha256([1]), contentBytes: 1000, by: key)
    }
    private func offer(_ genesis: PBEnvelope) -> PBPacket {
        var packet = PBPacket()
        packet.offer.genesis = genesis
        packet.offer.leaseMilliseconds = 15_000
        return packet
    }
    private func answer(
        of member: inout Member, to genesis: PBEnvelope, from peer: PeerID = Small.launcher.peerID
    ) throws -> PBOfferAnswer {
        member.receive(offer(genesis), payload: [], from: peer, at: .zero + .seconds(1))
        var found: PBOfferAnswer?
        while let effect = member.poll() {
            if case .send(let packet, _, _, let to) = effect, case .offerAnswer(let answer)? = packet.body {
                #expect(to == peer)
                found = answer
            }
        }
        return try #require(found)
    }

    @Test func `of an accepted launcher are taken`() throws {
        var member = member()
        let answer = try answer(of: &member, to: genesis())
        #expect(answer.accepted, "\(answer.reason)")
        #expect(member.isWorking)
        #expect(member.jobID == sha256(Array(Self.manifest.utf8)))
    }

    @Test func `of a launcher that the owner did not accept are declined`() throws {
        var member = member(accepting: [Small.peer(9)])
        let answer = try answer(of: &member, to: genesis())
        #expect(!answer.accepted)
        #expect(answer.reason.contains(Small.launcher.peerID.short))
        #expect(answer.reason.contains("laptop"))
        #expect(!member.isWorking)
    }

    @Test func `that another peer passes on are declined`() throws {
        var member = member()
        let answer = try answer(of: &member, to: genesis(), from: Small.peer(9))
        #expect(!answer.accepted)
        #expect(!member.isWorking)
    }

    @Test func `with other numerics are declined, and the answer names both`() throws {
        var entry = PBLogEntry()
        entry.genesis.manifest = Self.manifest
        entry.genesis.electors = [bytesOf(Small.launcher.peerID)]
        entry.genesis.numerics = "atoll-99"
        entry.genesis.content = bytesOf(sha256([1]))
        let genesis = PBEnvelope(
            entry, type: .logEntry, job: sha256(Array(Self.manifest.utf8)), epoch: 0, sequence: 0, by: Small.launcher)
        var member = member()
        let answer = try answer(of: &member, to: genesis)
        #expect(!answer.accepted)
        #expect(answer.reason.contains("atoll-99"))
        #expect(answer.reason.contains(JobLog.numerics))
        #expect(!member.isWorking)
    }

    @Test func `with a broken signature or an unreadable manifest are declined`() throws {
        var member = member()
        var broken = genesis()
        broken.sequence += 1
        #expect(try !answer(of: &member, to: broken).accepted)
        let unreadable = try answer(of: &member, to: genesis("name: [1"))
        #expect(!unreadable.accepted)
        #expect(unreadable.reason.contains("manifest"))
        #expect(!member.isWorking)
    }

    @Test func `of a second job are declined while the first one runs`() throws {
        var member = member(accepting: [Small.launcher.peerID, Small.peer(9)])
        #expect(try answer(of: &member, to: genesis()).accepted)
        let second = try answer(of: &member, to: genesis(by: Small.key(9)), from: Small.peer(9))
        #expect(!second.accepted)
        #expect(second.reason.contains("works for job"))
        #expect(try answer(of: &member, to: genesis()).accepted)
    }

    @Test func `are void when the lease runs out`() throws {
        var member = member()
        _ = try answer(of: &member, to: genesis())
        member.wake(at: .zero + .milliseconds(15_999))
        #expect(member.isWorking)
        var lease = PBPacket()
        lease.lease.job = bytesOf(sha256(Array(Self.manifest.utf8)))
        lease.lease.milliseconds = 20_000
        // Only the launcher prolongs it.
        member.receive(lease, payload: [], from: Small.peer(9), at: .zero + .milliseconds(15_999))
        var other = member
        other.wake(at: .zero + .seconds(16))
        #expect(!other.isWorking)
        member.receive(lease, payload: [], from: Small.launcher.peerID, at: .zero + .milliseconds(15_999))
        member.wake(at: .zero + .seconds(16))
        #expect(member.isWorking)
    }

    // MARK: the launcher's side

    private func coordinator(expecting peers: Int? = nil) -> Coordinator {
        var options = CoordinatorOptions()
        options.expectedPeers = peers
        return Coordinator(
            key: Small.launcher, manifest: Self.manifest, parameters: Small.parameters(),
            content: [UInt8](repeating: 32, count: 1000), options: options, at: .zero)
    }
    private func arrive(
        _ number: Int, at coordinator: inout Coordinator, numerics: String = JobLog.numerics, refusing reason: String?
    ) {
        let (peer, now) = (Small.peer(number), Instant.zero + .milliseconds(10 * Int64(number)))
        coordinator.established(peer, endpoint: Small.endpoint(number), at: now)
        var packet = PBPacket()
        packet.capability.name = "peer-\(number)"
        packet.capability.numerics = numerics
        packet.capability.flops = 1e9
        packet.capability.memoryBytes = 64 << 20
        coordinator.receive(packet, payload: [], from: peer, at: now)
        guard numerics == JobLog.numerics else { return }
        packet = PBPacket()
        packet.offerAnswer.accepted = reason == nil
        packet.offerAnswer.reason = reason ?? ""
        coordinator.receive(packet, payload: [], from: peer, at: now)
    }
    /// Wakes it whenever it wants, and answers how the job ended, and when.
    private func run(_ coordinator: inout Coordinator, limit: Duration) -> (text: String, at: Instant)? {
        var now = Instant.zero
        while true {
            while let effect = coordinator.poll() {
                if case .ended(.failed(let text)) = effect { return (text, now) }
            }
            guard let wake = coordinator.nextWake, wake <= .zero + limit else { return nil }
            now = max(now, wake)
            coordinator.wake(at: now)
        }
    }

    @Test func `declined by everybody end the job with who, why and what to do`() throws {
        var coordinator = coordinator()
        arrive(1, at: &coordinator, refusing: "not among those its owner accepts")
        arrive(2, at: &coordinator, refusing: "works for job 1234")
        arrive(3, at: &coordinator, numerics: "atoll-0", refusing: nil)
        let end = try #require(run(&coordinator, limit: .seconds(100)))
        #expect(end.at <= .zero + .seconds(10))
        #expect(end.text.contains("none of the 3 peers"))
        #expect(end.text.contains(Small.launcher.peerID.hex))
        #expect(end.text.contains("peer-1: not among those its owner accepts"))
        #expect(end.text.contains("peer-2: works for job 1234"))
        #expect(end.text.contains("numerics atoll-0"))
        #expect(end.text.contains("`accept`"))
        #expect(coordinator.phase == .ended)
        #expect(coordinator.nextWake == nil)
    }

    @Test func `that one takes do not end the job`() {
        var coordinator = coordinator(expecting: 2)
        arrive(1, at: &coordinator, refusing: "no")
        arrive(2, at: &coordinator, refusing: nil)
        #expect(coordinator.members.map(\.name) == ["peer-2"])
        #expect(run(&coordinator, limit: .seconds(4)) == nil)
        #expect(coordinator.phase == .gathering)
    }

    @Test func `that nobody hears end the job with what to look at`() throws {
        var coordinator = coordinator(expecting: 3)
        let end = try #require(run(&coordinator, limit: .seconds(1000)))
        #expect(end.at == .zero + .seconds(120))
        #expect(end.text.contains("only 0 of the wanted 3 peers"))
        #expect(end.text.contains("atoll peer --invite"))
    }

    @Test func `a stopped launcher says so`() throws {
        var coordinator = coordinator()
        coordinator.cancel(at: .zero + .seconds(1))
        let end = try #require(run(&coordinator, limit: .seconds(1000)))
        #expect(end.text == "stopped by its launcher")
    }
}
