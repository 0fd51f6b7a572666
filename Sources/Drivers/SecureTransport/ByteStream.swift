import EventLoop
import Primitives

/// What TLS runs over: a TCP connection, or a flow over datagrams. Confined to the loop; nothing is called back after ``close()``.
protocol ByteStream: AnyObject {
    /// Written and not yet sent.
    var unsentBytes: Int { get }
    /// - Parameters:
    ///   - read: the bytes are valid during the call only.
    ///   - ended: called once when nothing more will come; the stream still has to be closed.
    func startReading(
        read: @escaping (UnsafeRawBufferPointer) -> Void, ended: @escaping (SocketError) -> Void)
    func pauseReading()
    func resumeReading()
    /// Called each time some of what waited has gone.
    func onProgress(_ progressed: @escaping () -> Void)
    func write(_ bytes: UnsafeRawBufferPointer)
    /// Sends what was written and then the end; reading goes on.
    func finishWriting()
    func close()
}
extension TCPStream: ByteStream {}
