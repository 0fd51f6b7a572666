import Daemon
import EventLoop
import Foundation
import Kademlia
import Primitives
import Telemetry

/// A daemon's overlay state on disk, `overlay.state` in its folder: node ID, contacts, what it keeps for others. Written
/// soon after joining, every five minutes, and at the end, beside its place and renamed, so that a crash leaves the old one.
final class OverlayArchive {
    static let name = "overlay.state"
    private let path: String
    private let poolKey: [UInt8]?
    /// What was there at the start; nil for a new node, another pool's state, or a damaged file.
    let state: OverlayState?
    private let problem: String?
    private weak var daemon: LiveDaemon?
    private var timer: EventLoop.Timer?
    private var isWriting = false
    private var complained = false

    private static let soon = Duration.seconds(1)
    private static let interval = Duration.seconds(300)

    init(_ folder: DataFolder, poolKey: [UInt8]?) {
        path = folder.path + "/" + Self.name
        self.poolKey = poolKey
        guard FileManager.default.fileExists(atPath: path) else {
            state = nil
            problem = nil
            return
        }
        do throws(NodeError) {
            let bytes = try readFile(path, limit: OverlayState.sizeLimit)
            state = OverlayState(bytes, poolKey: poolKey, wall: Int64(time(nil)))
            problem = state == nil ? "\(path) is of another pool or damaged; starting without it" : nil
        } catch {
            state = nil
            problem = error.description
        }
    }

    func attach(to daemon: LiveDaemon) {
        self.daemon = daemon
        if let problem { daemon.onEvent?(Event(.stateUnread(why: problem), at: daemon.loop.now)) }
        let loop = daemon.loop
        timer = EventLoop.Timer(loop) { [unowned self] in
            save()
            timer?.arm(at: loop.now + Self.interval)
        }
        timer?.arm(at: loop.now + Self.interval)
        daemon.onOverlayChanged = { [unowned self] in timer?.arm(at: loop.now + Self.soon) }
    }

    private func encoded(_ daemon: LiveDaemon) -> [UInt8] {
        daemon.core.directory.overlay.state(at: daemon.loop.now).encoded(poolKey: poolKey, wall: Int64(time(nil)))
    }

    private func save() {
        guard let daemon, !isWriting else { return }
        isWriting = true
        let bytes = encoded(daemon)
        let path = path
        daemon.offLoop {
            do throws(NodeError) {
                try writeFile(path, bytes, mode: 0o600)
                return String?.none
            } catch {
                return error.description
            }
        } then: { [weak self, weak daemon] problem in
            self?.isWriting = false
            guard let self, let daemon, let problem, !complained else { return }
            complained = true
            daemon.onEvent?(Event(.stateUnsaved(why: problem), at: daemon.loop.now))
        }
    }

    /// At the end: what was learned since the last time. A full disk costs a restart a few round trips, and no more.
    func close() {
        timer?.close()
        timer = nil
        guard let daemon else { return }
        try? writeFile(path, encoded(daemon), mode: 0o600)
    }
}
