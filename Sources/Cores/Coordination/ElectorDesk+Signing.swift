public import Consensus
import Digests
import Messages
import Primitives
import Record
import Telemetry

/// What an elector signs, and what others' signatures make of it.
extension ElectorDesk {
    /// The newest certificate of entries that are all here: what this machine alone can prove.
    public var proof: Certificate? {
        signing.recent.last { $0.claim.size <= record.length && (try? record.check($0)) != nil }
    }

    /// An elector signs for what is durable here of this term's leader.
    mutating func vouch() {
        guard let end = elector.vouchable, end != signing.vouched, end.count <= record.length,
            record.leaf(end.count - 1).term == end.term, elector.electorate.isVoter(key.peerID)
        else { return }
        if signing.tree.count > end.count { signing.tree = MerkleFrontier() }
        while signing.tree.count < end.count { signing.tree.append(record.leaf(signing.tree.count).hash) }
        signing.vouched = end
        let ack = Ack(
            LogClaim(
                job: job, era: record.era(at: end.count), term: end.term, size: end.count, root: signing.tree.root),
            by: key)
        add(ack)
        say(ack)
    }
    mutating func say(_ ack: Ack) {
        signing.own = (ack, now)
        for peer in elector.electorate.allVoters where peer != key.peerID {
            send(.ack(ack.claim, signature: ack.signature), to: peer)
        }
    }
    /// Words may be lost: a leader that lacks signatures says its own again, and is answered.
    mutating func sayAgain() {
        guard let due = ackDue, due <= now else { return }
        say(signing.own!.ack)
    }
    var ackDue: Instant? {
        guard leading != nil, let own = signing.own, own.ack.claim.size > certified else { return nil }
        return own.saidAt + .seconds(2)
    }
    mutating func answer(_ claim: LogClaim, of peer: PeerID) {
        guard peer == elector.leader, let own = signing.own, own.ack.claim.size >= claim.size,
            own.saidAt + .seconds(1) <= now
        else { return }
        signing.own!.saidAt = now
        send(.ack(own.ack.claim, signature: own.ack.signature), to: peer)
    }
    mutating func add(_ ack: Ack) {
        let size = ack.claim.size
        switch signing.acks.add(ack, record.electorate(at: size), era: record.era(at: size)) {
        case .nothing: break
        case .certified(let certificate):
            signing.recent = (signing.recent + [certificate]).suffix(Signing.mostRecent)
            if leading != nil { effects.push(.certified(certificate)) }
            show()
        case .lied(let proof):
            guard signing.liars.insert(ack.signer).inserted else { return }
            event(.electorsContradict(entries: proof.size, why: proof.what), peer: ack.signer)
            signing.unstored.append(proof)
            effects.push(.store(.contradiction(proof)))
            if leading != nil { effects.push(.unfit(ack.signer, .hasLied)) }
        }
    }
    /// Often enough that little is uncertified on disk, and seldom enough to cost nothing.
    mutating func storeCertificate() {
        guard let newest = certificate, newest.claim.size > signing.certified.size else { return }
        guard signing.certified.next <= now || isOver else { return }
        signing.certified.next = now + .seconds(1)
        if let proof, proof.claim.size > signing.certified.size {
            signing.certified.size = proof.claim.size
            effects.push(.store(.certificate(proof)))
        }
        // What could not be written is written again.
        for proof in signing.unstored { effects.push(.store(.contradiction(proof))) }
    }
}
