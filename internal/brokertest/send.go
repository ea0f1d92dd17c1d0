package brokertest

// SendConnack accepts the client (code 0) or refuses it. Limits are given as
// properties: ReceiveMaximum, MaximumQoS, MaximumPacketSize, RetainAvailable,
// ServerKeepAlive, AssignedClientIdentifier, ReasonString and so on.
func (c *Conn) SendConnack(sessionPresent bool, code byte, props ...Property) {
	c.t.Helper()
	c.Send(&Packet{Type: CONNACK, SessionPresent: sessionPresent, Code: code, Properties: props})
}

// SendPublish sends a PUBLISH; the type is filled in.
func (c *Conn) SendPublish(p Packet) {
	c.t.Helper()
	p.Type = PUBLISH
	c.Send(&p)
}

// SendPuback sends a PUBACK in the shortest form that carries the code and the
// properties.
func (c *Conn) SendPuback(id uint16, code byte, props ...Property) {
	c.t.Helper()
	c.SendAck(PUBACK, FormAuto, id, code, props...)
}

// SendPubrec sends a PUBREC, as SendPuback does.
func (c *Conn) SendPubrec(id uint16, code byte, props ...Property) {
	c.t.Helper()
	c.SendAck(PUBREC, FormAuto, id, code, props...)
}

// SendPubrel sends a PUBREL, as SendPuback does.
func (c *Conn) SendPubrel(id uint16, code byte, props ...Property) {
	c.t.Helper()
	c.SendAck(PUBREL, FormAuto, id, code, props...)
}

// SendPubcomp sends a PUBCOMP, as SendPuback does.
func (c *Conn) SendPubcomp(id uint16, code byte, props ...Property) {
	c.t.Helper()
	c.SendAck(PUBCOMP, FormAuto, id, code, props...)
}

// SendAck sends a PUBACK, PUBREC, PUBREL or PUBCOMP in a chosen form, for the
// clients' duty to understand each of them.
func (c *Conn) SendAck(t Type, form Form, id uint16, code byte, props ...Property) {
	c.t.Helper()
	c.Send(&Packet{Type: t, Form: form, PacketID: id, Code: code, Properties: props})
}

// SendSuback sends a SUBACK with a reason code per filter.
func (c *Conn) SendSuback(id uint16, codes ...byte) {
	c.t.Helper()
	c.Send(&Packet{Type: SUBACK, PacketID: id, Codes: codes})
}

// SendUnsuback sends an UNSUBACK with a reason code per filter.
func (c *Conn) SendUnsuback(id uint16, codes ...byte) {
	c.t.Helper()
	c.Send(&Packet{Type: UNSUBACK, PacketID: id, Codes: codes})
}

// SendDisconnect sends a DISCONNECT. It does not close the connection.
func (c *Conn) SendDisconnect(code byte, props ...Property) {
	c.t.Helper()
	c.Send(&Packet{Type: DISCONNECT, Code: code, Properties: props})
}

// SendPingresp sends a PINGRESP.
func (c *Conn) SendPingresp() {
	c.t.Helper()
	c.Send(&Packet{Type: PINGRESP})
}
