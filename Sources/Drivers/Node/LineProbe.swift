public import Daemon
import Digests
import EventLoop
import Foundation
import Paths
public import Primitives
import Telemetry

/// A node that lives as long as it takes to see what a line is like: it joins the pool of an invite, asks the router for a port, has others dial it, and
/// goes. It keeps no key, answers nobody's questions, carries nothing.
public enum LineProbe {
    /// Blocks.
    ///
    /// - Parameters:
    ///   - listen: where others are to dial it; a free port is best.
    ///   - seconds: at most; it ends sooner when others have tried.
    ///   - router: whether it is asked for a port.
    /// - Throws: where nobody can listen.
    public static func look(
        _ invite: Invite, listen: Endpoint, seconds: Int, router: RouterChoice
    ) throws(NodeError) -> DaemonStatus {
        let loop = Loop()
        guard let key = SigningKey(seed: randomBytes(32)) else { throw .failed("no key can be made") }
        var setup = LiveDaemon.Setup(
            key: key, listen: listen, poolKey: invite.poolKey, bootstrap: invite.bootstrap, emulation: nil,
            seed: drawn())
        setup.bootstrapNames = invite.names
        setup.readOnly = true
        setup.relaying = RelayLimits(rate: .megabits(0), daily: ByteCount(0))
        setup.router = router
        let daemon = try LiveDaemon(loop, setup) { _ in DaemonCore.Services() }
        var status: DaemonStatus?
        let end = { [unowned daemon] in
            guard status == nil else { return }
            status = daemon.core.status(at: loop.now)
            daemon.stop()
        }
        daemon.onEvent = { [unowned daemon] event in
            switch event.what {
            // A private network has no outside, and nobody tries.
            case .externalAddress(let endpoint) where Endpoint(endpoint)?.isPrivate == true: soon(loop, end)
            case .reachability where daemon.core.status(at: loop.now).overlay.forwarding?.state != .asking:
                soon(loop, end)
            default: break
            }
        }
        let guardian = EventLoop.Timer(loop) { end() }
        guardian.arm(at: loop.now + .seconds(seconds))
        daemon.start()
        loop.run()
        guardian.close()
        loop.close()
        return status ?? daemon.core.status(at: loop.now)
    }
    private static func soon(_ loop: Loop, _ end: @escaping () -> Void) { loop.soon(end) }
    private static func drawn() -> UInt64 { randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) } }
}
