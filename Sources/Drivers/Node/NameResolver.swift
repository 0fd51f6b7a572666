import EventLoop
import Foundation
public import Primitives

/// A bootstrap node given by name.
public struct HostName: Hashable, Sendable, CustomStringConvertible {
    public let name: String
    public let port: UInt16
    public var description: String { "\(name):\(port)" }

    /// NAME:PORT; nil for anything else.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0
        else { return nil }
        name = String(text[..<colon])
        self.port = port
        let allowed = name.unicodeScalars.allSatisfy {
            $0.isASCII
                && ($0.properties.isAlphabetic || $0.properties.numericType != nil || "-._".unicodeScalars.contains($0))
        }
        guard !name.isEmpty, name.count <= 253, allowed, name.contains(where: \.isLetter) else { return nil }
    }

    /// Every address of the name; empty when nobody knows it now. Blocks.
    public func resolve() -> [Endpoint] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, "\(port)", &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var out: [Endpoint] = []
        var next = list
        while let entry = next {
            if let found = Endpoint(socketAddress: entry.pointee.ai_addr), !out.contains(found) { out.append(found) }
            next = entry.pointee.ai_next
        }
        return out
    }
}

/// Looks names up off the loop, with back-off, until each is known: a laptop may start before its network does.
final class NameResolver {
    private let loop: Loop
    private let pool: WorkPool
    private let found: (Endpoint) -> Void
    private var missing: [HostName]
    private var pause = Duration.seconds(2)
    private var timer: EventLoop.Timer?

    init(_ loop: Loop, _ pool: WorkPool, _ names: [HostName], found: @escaping (Endpoint) -> Void) {
        self.loop = loop
        self.pool = pool
        self.found = found
        missing = names
        guard !names.isEmpty else { return }
        timer = EventLoop.Timer(loop) { [unowned self] in look() }
        timer?.arm(at: loop.now)
    }

    private func look() {
        let names = missing
        pool.makeQueue().submit({ names.map { $0.resolve() } }) { [weak self] results in
            guard let self, let timer else { return }
            missing = zip(names, results).filter { $0.1.isEmpty }.map(\.0)
            for endpoint in results.flatMap(\.self) { found(endpoint) }
            guard !missing.isEmpty else { return }
            timer.arm(at: loop.now + pause)
            pause = min(.seconds(60), pause * 2)
        }
    }

    func close() {
        timer?.close()
        timer = nil
    }
}
