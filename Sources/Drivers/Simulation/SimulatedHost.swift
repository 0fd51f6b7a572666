import Coordination
import Daemon
import Digests
import Primitives
import Training

/// One machine: its daemon and its engine. Its lines and streams are the network's.
final class SimulatedHost {
    let index: Int
    let name: String
    let endpoint: Endpoint
    let key: SigningKey
    var flops: Double
    var daemon: DaemonCore?
    var engine: any Engine = ModelledEngine()
    var configuration: StageConfiguration?
    /// Results that wait for the device to have had the time to compute them.
    var results: [(at: Instant, result: ComputeResult)] = []
    var busyUntil = Instant.zero
    var planAnswer: (at: Instant, result: Result<PlanAnswer, NoPlan>)?

    init(index: Int, name: String, endpoint: Endpoint, key: SigningKey, flops: Double) {
        self.index = index
        self.name = name
        self.endpoint = endpoint
        self.key = key
        self.flops = flops
    }

    /// When it has something of its own to do.
    var nextWake: Instant? {
        var next = daemon!.nextWake
        if !results.isEmpty { next = earliest(next, results[0].at) }
        if planAnswer != nil { next = earliest(next, planAnswer!.at) }
        return next
    }
}
