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
    /// What round starts of this member's stage take, while a third is written: weights, momentum, both moments and error feedback.
    var roundStartBytes: Int? {
        guard let plan = job.plan, let stage = plan.stage(of: me) else { return nil }
        let model = job.parameters.model
        let values = stage.units.reduce(0) { $0 + model.parameters(unit: $1) }
        return (RoundStarts.generations + 1) * values * (plan.mode == .rounds ? 20 : 16)
    }
}
