import Digests
import Primitives
import Swarm
import Testing
import Wire

@Suite struct `The job log` {
    private func finish(_ reason: String) -> PBLogEntry.OneOf_Body {
        var finish = PBFinish()
        finish.reason = reason
        return .finish(finish)
    }
    /// The elector's log and a replica that has its genesis.
    private func logs() throws -> (JobLog, JobLog) {
        let genesis = JobLog.genesis(manifest: "m", content: sha256([1]), contentBytes: 1, by: Small.launcher)
        return (try JobLog(genesis: genesis), try JobLog(genesis: genesis))
    }
    private func kind(_ acceptance: JobLog.Acceptance) -> String {
        switch acceptance {
        case .appended(let entry, let epoch): "appended \(entry.index) epoch \(epoch)"
        case .known: "known"
        case .gap(let from): "gap from \(from)"
        }
    }

    @Test func `a replica that is sent every entry holds the same log`() throws {
        var (elector, replica) = try logs()
        #expect(replica.job == sha256(Array("m".utf8)))
        for number in 1...20 {
            let (envelope, entry) = elector.append(finish("\(number)"), epoch: 7, by: Small.launcher)
            #expect(entry.index == UInt64(number))
            #expect(kind(try replica.receive(envelope)) == "appended \(number) epoch 7")
        }
        #expect(replica.envelopes == elector.envelopes)
    }

    @Test func `each entry names the hash of the one before it`() throws {
        var (elector, _) = try logs()
        for number in 0..<4 { _ = elector.append(finish("\(number)"), epoch: 1, by: Small.launcher) }
        for index in 1..<elector.length {
            let entry = try elector.envelopes[index].open(.logEntry, job: elector.job, as: PBLogEntry.self).body
            #expect(Array(entry.previous) == sha256(elector.envelopes[index - 1].encoded).bytes)
        }
    }

    @Test func `an entry seen before changes nothing`() throws {
        var (elector, replica) = try logs()
        let (envelope, _) = elector.append(finish("a"), epoch: 1, by: Small.launcher)
        _ = try replica.receive(envelope)
        #expect(kind(try replica.receive(envelope)) == "known")
        #expect(kind(try replica.receive(elector.envelopes[0])) == "known")
        #expect(replica.length == 2)
    }

    @Test func `a gap says from where the replica lacks entries`() throws {
        var (elector, replica) = try logs()
        let first = elector.append(finish("a"), epoch: 1, by: Small.launcher).0
        let second = elector.append(finish("b"), epoch: 1, by: Small.launcher).0
        let third = elector.append(finish("c"), epoch: 1, by: Small.launcher).0
        #expect(kind(try replica.receive(third)) == "gap from 1")
        #expect(kind(try replica.receive(second)) == "gap from 1")
        #expect(kind(try replica.receive(first)).hasPrefix("appended"))
        #expect(kind(try replica.receive(third)) == "gap from 2")
        #expect(replica.length == 2)
    }

    @Test func `a foreign signer is refused`() throws {
        let (elector, original) = try logs()
        var replica = original
        var entry = PBLogEntry()
        entry.index = 1
        entry.previous = bytesOf(sha256(elector.envelopes[0].encoded))
        entry.body = finish("mine now")
        let foreign = PBEnvelope(entry, type: .logEntry, job: elector.job, epoch: 1, sequence: 1, by: Small.key(3))
        #expect(throws: MalformedBytes.self) { try replica.receive(foreign) }
        let own = PBEnvelope(entry, type: .logEntry, job: elector.job, epoch: 1, sequence: 1, by: Small.launcher)
        #expect(kind(try replica.receive(own)) == "appended 1 epoch 1")
    }

    @Test func `an entry that does not follow the one before it is refused, although rightly signed`() throws {
        var (elector, replica) = try logs()
        var entry = PBLogEntry()
        entry.index = 1
        entry.previous = bytesOf(sha256([0]))
        entry.body = finish("a fork")
        let fork = PBEnvelope(entry, type: .logEntry, job: elector.job, epoch: 1, sequence: 1, by: Small.launcher)
        #expect(throws: MalformedBytes.self) { try replica.receive(fork) }
        #expect(replica.length == 1)
        let (right, _) = elector.append(finish("a"), epoch: 1, by: Small.launcher)
        _ = try replica.receive(right)
        #expect(replica.length == 2)
    }

    @Test func `an entry of another job is refused`() throws {
        var (_, replica) = try logs()
        let genesis = JobLog.genesis(manifest: "other", content: sha256([1]), contentBytes: 1, by: Small.launcher)
        var other = try JobLog(genesis: genesis)
        let (envelope, _) = other.append(finish("a"), epoch: 1, by: Small.launcher)
        #expect(throws: MalformedBytes.self) { try replica.receive(envelope) }
    }

    private func genesis(
        index: UInt64 = 0, numerics: String = JobLog.numerics, electors: [PeerID] = [Small.launcher.peerID],
        job: Digest256 = sha256(Array("m".utf8)), by key: SigningKey = Small.launcher
    ) -> PBEnvelope {
        var entry = PBLogEntry()
        entry.index = index
        entry.genesis.manifest = "m"
        entry.genesis.numerics = numerics
        entry.genesis.electors = electors.map { bytesOf($0) }
        entry.genesis.content = bytesOf(sha256([1]))
        return PBEnvelope(entry, type: .logEntry, job: job, epoch: 0, sequence: 0, by: key)
    }

    @Test func `a genesis must fit this build, its job and its signer`() throws {
        #expect(throws: Never.self) { try JobLog(genesis: genesis()) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(numerics: "atoll-0")) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(index: 1)) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(electors: [])) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(electors: [Small.peer(1)])) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(job: sha256([9]))) }
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: genesis(by: Small.key(1))) }
        var (elector, _) = try logs()
        let (notFirst, _) = elector.append(finish("a"), epoch: 1, by: Small.launcher)
        #expect(throws: MalformedBytes.self) { try JobLog(genesis: notFirst) }
    }
}
