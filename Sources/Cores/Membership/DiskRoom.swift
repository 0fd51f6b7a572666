public import Primitives
import Record
import Telemetry
import Training

/// What may still be written where a member keeps what it keeps, as its driver has seen it last.
public struct DiskRoom: Hashable, Sendable {
    public var free: ByteCount
    /// For people: the folder.
    public var place: String
    public init(free: ByteCount, place: String) {
        self.free = free
        self.place = place
    }
    /// Why so much does not fit; nil where it does.
    func refusal(_ bytes: Int, for what: String) -> String? {
        guard free.bytes < bytes else { return nil }
        return "\(what) needs \(ByteCount(bytes)) in \(place), where \(free) are free"
    }
}

extension MemberJob {
    /// What round starts of this member's stage take, while another is written: weights, momentum, both moments and error feedback; and
    /// copies of others' units, weights and momentum.
    var roundStartBytes: Int? {
        guard let plan = job.plan, let stage = plan.stage(of: me) else { return nil }
        let model = job.parameters.model
        func values(_ units: Range<Int>) -> Int { units.reduce(0) { $0 + model.parameters(unit: $1) } }
        let copies = job.parameters.copiesStart(of: job.parameters.checkpointRounds) ? job.parameters.copies : 0
        let copied = plan.copied(by: me, copies: copies, units: model.allUnits).reduce(0) { $0 + values($1) }
        let generations = RoundStarts.generations
        // Those that fit to copies stay, too.
        let own = (copied > 0 ? 2 * generations : generations) + 1
        return own * values(stage.units) * (plan.mode == .rounds ? 20 : 16)
            + (generations + 1) * copied * (plan.mode == .rounds ? 8 : 4)
    }
}
