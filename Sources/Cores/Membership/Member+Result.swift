import Digests
public import Messages
public import Primitives
public import Record
import Telemetry
public import Training

/// The result of a job that is over, for whoever its manifest allows to collect it.
extension Member {
    /// All of it: this machine has led the job to its end.
    public mutating func keep(result: [UnitState], round: Int, of record: Record, at now: Instant) {
        results.keep(result, round: round, of: record, at: now)
        drain(at: now)
    }
    /// Whether it is for this member to answer who asks for contents of a job.
    public func answers(for id: Digest256?) -> Bool { id != nil && (id == jobID || id == results.job) }

    /// The units that it held last were given to whoever collected the weights, and are here still.
    mutating func keepResult(of job: MemberJob, at now: Instant) {
        guard results.job != job.id, job.job.finished.map({ $0.reason == Finish.done }) ?? true,
            let shelf = job.states.shelf(of: job.job.round)
        else { return }
        results.keep(shelf, of: job.record, at: now)
    }
    /// Whether somebody asks for what is left of a job that is over here.
    func asksForResult(_ packet: Packet) -> Bool {
        guard let id = packet.job, id == results.job, id != job?.id else { return false }
        return switch packet.message {
        case .stateRequest, .indexRequest, .chunkRequest: true
        default: false
        }
    }
    mutating func giveResult(_ packet: Packet, to peer: PeerID, at now: Instant) {
        switch results.answer(packet.message, from: peer, at: now) {
        case .send(let answer): effects.push(.send(Packet(job: packet.job, answer), to: peer))
        case .notEntitled(isNews: true):
            effects.push(.event(Event(.notEntitled(message: packet.message.kind), at: now, peer: peer.short)))
        case .notEntitled(isNews: false), nil: break
        }
    }
}
