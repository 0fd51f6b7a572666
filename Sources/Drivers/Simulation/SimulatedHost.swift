import Coordination
import Daemon
import Digests
import Kademlia
import Membership
import Primitives
import Record
import Training
import VirtualNetworks

/// One machine: its daemon and its engine. Its lines and streams are the network's.
final class SimulatedHost {
    let index: Int
    let name: String
    var endpoint: Endpoint
    let key: SigningKey
    var flops: Double
    /// Asked where it lies: a property of a class would be copied whenever it is asked.
    var daemon: DaemonCore? {
        unsafeAddress { process.address }
        unsafeMutableAddress { process.mutableAddress() }
    }
    private var process = Indirect<DaemonCore?>(nil)
    /// Streams over datagrams, in worlds with routers.
    var flows: VirtualFlows? {
        unsafeAddress { streams.address }
        unsafeMutableAddress { streams.mutableAddress() }
    }
    private var streams = Indirect<VirtualFlows?>(nil)
    var engine: any Engine = ModelledEngine()
    var configuration: StageConfiguration?
    /// Results that wait for the device to have had the time to compute them.
    var results: [(at: Instant, result: ComputeResult)] = []
    var busyUntil = Instant.zero
    var planAnswer: (at: Instant, result: Result<PlanAnswer, NoPlan>)?
    /// Nil for one that keeps what it is given, at once, and never fails.
    var disk: VirtualDisk?
    /// What the other one keeps of rounds.
    var starts: [StorageTicket: RoundStart] = [:]
    /// On their way to the disk, in order.
    var writes: [(at: Instant, request: StorageRequest, service: DaemonCore.Service)] = []
    /// Processes that have run here.
    var lives = 0
    /// When the last of them began.
    var startedAt = Instant.zero
    /// What the last of them knew of the overlay.
    var remembered: OverlayState?
    /// The process stands still.
    var frozenSince: Instant?
    /// Of its next process: it founds the job anew; how far its clock is off, in seconds.
    var next = (refounds: false, clockError: Int64(0))

    init(index: Int, name: String, endpoint: Endpoint, key: SigningKey, flops: Double) {
        self.index = index
        self.name = name
        self.endpoint = endpoint
        self.key = key
        self.flops = flops
    }

    /// What has come of collecting the job's result here.
    var collected: JobEnd {
        switch daemon?.services.watch?.collected {
        case .weights(let states)?: .finished(states)
        case .failed(let why)?: .failed(why)
        case nil: .failed("nothing was collected")
        }
    }

    /// When it has something of its own to do.
    var nextWake: Instant? {
        var due = earliest(daemon!.nextWake, flows?.whenToWake())
        if !results.isEmpty { due = earliest(due, results[0].at) }
        if !writes.isEmpty { due = earliest(due, writes[0].at) }
        if planAnswer != nil { due = earliest(due, planAnswer!.at) }
        return due
    }
}
