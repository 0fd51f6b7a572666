import Daemon
import Primitives
import Testing

@Test func `how long a wanted peer took is counted to the first session and to the path that it has now`() {
    func after(_ milliseconds: Int64) -> Instant { Instant(seconds: 10) + .milliseconds(milliseconds) }
    var wish = Wish(Endpoint(ipv4: 60, 0, 0, 1, port: 4000), at: after(0))
    #expect(wish.usableAfter == nil && wish.pathAfter == nil)
    wish.goes(over: "relayed", at: after(200))
    wish.goes(over: "punched", at: after(700))
    // Another connection of the same kind, after the first one broke.
    wish.goes(over: "punched", at: after(9_000))
    #expect(wish.usableAfter == .milliseconds(200) && wish.pathAfter == .milliseconds(700))
    wish.goes(over: "relayed", at: after(10_000))
    #expect(wish.usableAfter == .milliseconds(200) && wish.pathAfter == .seconds(10))
}
