import Channels
import Coordination
import Daemon
import Digests
import Links
import Primitives
import Training

/// What travels between hosts of a world.
enum Parcelled: Sendable {
    case datagram([UInt8])
    /// The legs of TCP and TLS 1.3 before a connection carries messages.
    case handshake(connection: Int, leg: Int)
    case bytes(connection: Int, [UInt8])
    case end(connection: Int)
}

/// One machine: its access lines, its daemon, its engine.
final class SimulatedHost {
    let index: Int
    let name: String
    let endpoint: Endpoint
    let key: SigningKey
    var flops: Double
    var daemon: DaemonCore?
    var shaper: Shaper<Parcelled>
    var reception: Reception<Parcelled>
    var engine: any Engine
    var configuration: StageConfiguration?
    /// Results that wait for the device to have had the time to compute them.
    var results: [(at: Instant, result: ComputeResult)] = []
    var busyUntil = Instant.zero
    /// This host's connection IDs by number of the world's connection.
    var idOf: [Int: ConnectionID] = [:]
    var connectionOf: [ConnectionID: Int] = [:]
    var nextInbound: UInt64 = 2
    var sent = 0
    var received = 0
    var planAnswer: (at: Instant, result: Result<PlanAnswer, NoPlan>)?
    var alive = false
    /// The daemon's, as of its last input.
    var daemonWake: Instant?

    init(
        index: Int, name: String, endpoint: Endpoint, key: SigningKey, flops: Double, up: BitRate, down: BitRate,
        engine: any Engine, seed: UInt64
    ) {
        self.index = index
        self.name = name
        self.endpoint = endpoint
        self.key = key
        self.flops = flops
        self.engine = engine
        shaper = Shaper(up: up, seed: seed)
        reception = Reception(down: down)
    }

    var nextWake: Instant? {
        var next = earliest(shaper.nextWake, reception.nextWake)
        if alive {
            next = earliest(next, daemonWake)
            next = earliest(next, results.first?.at)
            next = earliest(next, planAnswer?.at)
        }
        return next
    }
}

/// One TCP connection: who dialled whom.
struct SimulatedConnection {
    let from: Int
    let to: Int
    var open = true
    func other(_ host: Int) -> Int { host == from ? to : from }
}
