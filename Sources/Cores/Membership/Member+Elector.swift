public import Digests
public import Primitives
public import Record
public import Wire

/// What a daemon's elector asks of its member.
extension Member {
    /// The text of a job, where all of it is here.
    public func text(of job: Digest256) -> StoredBytes? {
        guard let part = self.job, part.id == job else { return nil }
        return part.text.bytes
    }
    /// Whether a peer is an elector of the job that this member is in.
    public func isElector(_ peer: PeerID, of job: Digest256) -> Bool {
        guard let part = self.job, part.id == job else { return false }
        return part.allegiance.isElector(peer)
    }
    /// What whoever is made an elector of this member's job begins with; nil where it is in another, or in none.
    public func foundation(of job: Digest256) -> (genesis: PBEnvelope, wall: WallClock, parse: Record.Parser)? {
        guard let part = self.job, part.id == job else { return nil }
        return (part.record.envelopes[0], wall, parse)
    }
}
