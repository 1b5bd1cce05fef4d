package toolhost

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"sidecall.dev/go/sidecallv1"
)

// Part is a typed part of a result.
type Part = sidecallv1.ResultPart

// Parts is a result of typed parts: images and files beside text, for example.
type Parts []*Part

// Text makes a part of text.
func Text(text string) *Part { return &Part{Part: &sidecallv1.ResultPart_Text{Text: text}} }

// JSON makes a part of the text of a JSON value.
func JSON(text string) *Part { return &Part{Part: &sidecallv1.ResultPart_Json{Json: text}} }

// Blob makes a part of bytes: an image or a file. name is a file name for people and models; it
// may be empty.
func Blob(mediaType string, data []byte, name string) *Part {
	blob := &sidecallv1.Blob{MediaType: mediaType, Data: data, Name: name}
	return &Part{Part: &sidecallv1.ResultPart_Blob{Blob: blob}}
}

// Link makes a part that points to content elsewhere, which nobody fetches. mediaType and name
// may be empty.
func Link(uri, mediaType, name string) *Part {
	link := &sidecallv1.Link{Uri: uri, MediaType: mediaType, Name: name}
	return &Part{Part: &sidecallv1.ResultPart_Link{Link: link}}
}

// validParts returns parts whose texts are UTF-8, which is all that messages can hold.
func validParts(parts Parts) []*Part {
	var valid []*Part
	for _, part := range parts {
		if part == nil {
			continue
		}
		part = proto.CloneOf(part)
		switch part := part.GetPart().(type) {
		case *sidecallv1.ResultPart_Text:
			part.Text = validText(part.Text)
		case *sidecallv1.ResultPart_Json:
			part.Json = validText(part.Json)
		case *sidecallv1.ResultPart_Blob:
			part.Blob.MediaType = validText(part.Blob.GetMediaType())
			part.Blob.Name = validText(part.Blob.GetName())
		case *sidecallv1.ResultPart_Link:
			part.Link.Uri = validText(part.Link.GetUri())
			part.Link.MediaType = validText(part.Link.GetMediaType())
			part.Link.Name = validText(part.Link.GetName())
		}
		valid = append(valid, part)
	}
	return valid
}

func validText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
