from django.http import HttpResponse


def clean(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def hello(request):
    return HttpResponse("<h1>%s</h1>" % clean(request.GET["name"]))
